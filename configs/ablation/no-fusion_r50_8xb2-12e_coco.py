# No cross-level token fusion.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    token_fusion=None,
)
