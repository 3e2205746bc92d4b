# Focus-DETR beside salience-detr_r18_1xb8-750i_synthetic.py: the same data, size and schedule.
_base_ = [
    '../_base_/models/focus_detr_r18_small.py',
    '../_base_/datasets/synthetic_defects.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adamw_from_scratch.py',
]

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=25),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=_base_.max_iters),
)
log_processor = dict(type='LogProcessor', window_size=25, by_epoch=False)
