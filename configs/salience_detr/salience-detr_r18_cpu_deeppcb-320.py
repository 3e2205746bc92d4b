# DeepPCB at half resolution, from scratch, in about an hour on two CPU cores.
_base_ = [
    '../_base_/models/salience_detr_r18_small.py',
    '../_base_/datasets/deeppcb.py',
    '../_base_/schedules/adamw_from_scratch.py',
    '../_base_/default_runtime.py',
]

max_iters = 1500
img_scale = (320, 320)

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = img_scale
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = img_scale

train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline)
)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=500)
# Two boards a step: half the rate of the base schedule's batch of 8.
optim_wrapper = dict(optimizer=dict(lr=2e-4))
auto_scale_lr = dict(base_batch_size=2)
# A fifteenth of the training to warm up, as in the base schedule.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=False, milestones=[1200], gamma=0.1),
]

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=500, max_keep_ckpts=2),
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
