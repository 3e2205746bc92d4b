# Fewer tokens from the second layer on.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    encoder=dict(token_filter=dict(layer_ratios=(1.0, 0.5, 0.3, 0.2, 0.1, 0.1))),
)
