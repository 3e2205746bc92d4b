# From scratch on the embedded synthetic defects: 750 steps of 8 images of 128 px, about 20 minutes
# on two CPU cores.
_base_ = [
    '../_base_/models/salience_detr_r18_small.py',
    '../_base_/datasets/synthetic_defects.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adamw_from_scratch.py',
]

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=25),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=_base_.max_iters),
)
log_processor = dict(type='LogProcessor', window_size=25, by_epoch=False)
