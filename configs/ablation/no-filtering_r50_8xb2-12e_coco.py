# No filtering: every layer updates all tokens.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    encoder=dict(
        token_filter=dict(
            level_ratios=(1.0, 1.0, 1.0, 1.0), layer_ratios=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
        )
    ),
)
