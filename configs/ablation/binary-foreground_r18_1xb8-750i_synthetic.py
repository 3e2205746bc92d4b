# Binary foreground targets and their loss (Focus-DETR) instead of salience.
_base_ = '../salience_detr/salience-detr_r18_1xb8-750i_synthetic.py'

model = dict(
    bbox_head=dict(loss_salience=dict(type='ForegroundLoss', loss_weight=1.5)),
    train_cfg=dict(salience_assigner=dict(type='ForegroundAssigner')),
)
