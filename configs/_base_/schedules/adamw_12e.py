# The published recipe for COCO: AdamW, 12 epochs, the learning rate decays after
# epoch 10 (release; DINO uses 11).
max_epochs = 12
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# As the release: from 1/1000 of the rate up to all of it in the first 1000 steps, or in the first
# epoch where that is shorter; x0.1 after epoch 10.
param_scheduler = [
    dict(
        type='FirstEpochWarmupLR',
        start_factor=0.001,
        max_steps=1000,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[10], gamma=0.1),
]

# Rate and decay go by the parameters' names, each on its own, as in the release: what is called
# norm or bias is not decayed. The weights of the norms called bn or gn are.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ByNameOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            'sampling_offsets': dict(lr_mult=0.1),
            'reference_points': dict(lr_mult=0.1),
            'norm': dict(decay_mult=0.0),
            'bias': dict(decay_mult=0.0),
        },
    ),
)

# 8 GPUs x 2 images, for --auto-scale-lr.
auto_scale_lr = dict(base_batch_size=16)
