# Twice as many tokens of the finest level.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    encoder=dict(token_filter=dict(level_ratios=(0.8, 0.8, 1.0, 1.0))),
)
