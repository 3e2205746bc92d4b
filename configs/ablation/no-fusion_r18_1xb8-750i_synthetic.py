# No cross-level token fusion.
_base_ = '../salience_detr/salience-detr_r18_1xb8-750i_synthetic.py'

model = dict(
    token_fusion=None,
)
