# From scratch on small data sets, by iterations: epochs of a few hundred images are too short to
# be a unit. All weights learn at one rate, since none are pretrained, and the gradient is clipped
# loosely. The warm-up takes 50 steps from 1/50, a fifteenth of the training: the gradients of a
# fresh model need it, but COCO's 1000 steps from 1/1000 would be longer than the training.
max_iters = 750
decay_at = 600

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=False, milestones=[decay_at], gamma=0.1),
]

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ByNameOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    # As in COCO's schedule.
    paramwise_cfg=dict(
        custom_keys={'norm': dict(decay_mult=0.0), 'bias': dict(decay_mult=0.0)},
    ),
)
auto_scale_lr = dict(base_batch_size=8)
