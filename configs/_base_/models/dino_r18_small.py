# A small DINO to train from scratch on a CPU, of the size of salience_detr_r18_small.py.
_base_ = './dino_4scale_r50.py'

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
    encoder=dict(num_layers=num_layers, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=512))),
    decoder=dict(num_layers=num_layers, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=512))),
    test_cfg=dict(max_per_img=100),
)
