# The demo's model and data with images of 64 to 128 px in one batch, for a third of its steps.
_base_ = './salience-detr_r18_demo.py'

max_iters = 300
decay_at = 240
sides = (64, 80, 96, 112, 128)

train_pipeline = _base_.train_pipeline
train_pipeline.insert(
    2, dict(type='RandomChoiceResize', scales=[(side, side) for side in sides], keep_ratio=True)
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].milestones = [decay_at]
default_hooks = dict(checkpoint=dict(interval=max_iters))
custom_hooks = []
