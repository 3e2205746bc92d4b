# What `make demo` trains in about six minutes on two CPU cores: half the width and half the batch
# of the 750-step config, for many more steps in the time.
_base_ = './salience-detr_r18_1xb8-750i_synthetic.py'

dims = 128
max_iters = 900

model = dict(
    neck=dict(out_channels=dims),
    positional_encoding=dict(num_feats=dims // 2),
    salience_predictor=dict(embed_dims=dims),
    encoder=dict(
        layer_cfg=dict(
            dual_attn_cfg=dict(embed_dims=dims),
            self_attn_cfg=dict(embed_dims=dims),
            ffn_cfg=dict(embed_dims=dims),
        ),
        background_embedding=dict(embed_dims=dims),
    ),
    token_fusion=dict(in_channels=dims),
    decoder=dict(
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=dims),
            cross_attn_cfg=dict(embed_dims=dims),
            ffn_cfg=dict(embed_dims=dims),
        )
    ),
    bbox_head=dict(embed_dims=dims),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=50)),
)

train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=4)

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
# The warm-up of the 750-step config, and the decay moved to the longer training.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=False, milestones=[700], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
# Draws ground truth, detections and salience of four held-out images after each validation.
custom_hooks = [dict(type='SalienceVisualizationHook')]
