# Twice the epochs of COCO's 12; by convention the learning rate decays after 20.
_base_ = './adamw_12e.py'

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, milestones=[20])
