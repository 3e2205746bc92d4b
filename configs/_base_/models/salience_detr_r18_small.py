# A small Salience DETR to train from scratch on a CPU: ResNet-18 with trained batch norm,
# 3 + 3 layers, FFN 512, 50 queries.
_base_ = './salience_detr_r50.py'

num_layers = 3

model = dict(
    num_queries=50,
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        # As the release: a switched-off residual branch is for pretrained weights.
        zero_init_residual=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[128, 256, 512]),
    encoder=dict(
        num_layers=num_layers,
        layer_cfg=dict(num_dual_tokens=30, ffn_cfg=dict(feedforward_channels=512)),
        token_filter=dict(layer_ratios=(1.0, 0.6, 0.3)),
    ),
    decoder=dict(num_layers=num_layers, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=512))),
    test_cfg=dict(max_per_img=100),
)
