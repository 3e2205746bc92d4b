# DeepPCB at its full 640 px with the published R50 model, for one or two GPUs: fine-tune a COCO
# checkpoint (load_from) or start from ImageNet weights. 36 epochs of 1000 boards are about 4500
# iterations of 8; boards show the same few patterns, so more brings little.
_base_ = [
    '../_base_/models/salience_detr_r50.py',
    '../_base_/datasets/deeppcb.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]

max_epochs = 36
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_epochs=max_epochs, val_interval=3)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, milestones=[30])
auto_scale_lr = dict(base_batch_size=8)
