# Half the level ratios.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    encoder=dict(token_filter=dict(level_ratios=(0.2, 0.4, 0.5, 0.5))),
)
