# The published recipe for COCO: AdamW, 12 epochs, x0.1 after epoch 10 (release; DINO uses 11).
max_epochs = 12
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[10], gamma=0.1)
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            'sampling_offsets': dict(lr_mult=0.1),
            # A custom key switches the two lines above off, hence one more for the bias.
            'sampling_offsets.bias': dict(lr_mult=0.1, decay_mult=0.0),
            'reference_points': dict(lr_mult=0.1),
        },
    ),
)

# 8 GPUs x 2 images, for --auto-scale-lr.
auto_scale_lr = dict(base_batch_size=16)
