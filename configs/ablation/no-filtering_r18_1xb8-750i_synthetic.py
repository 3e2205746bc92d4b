# No filtering: every layer updates all tokens.
_base_ = '../salience_detr/salience-detr_r18_1xb8-750i_synthetic.py'

model = dict(
    encoder=dict(
        token_filter=dict(level_ratios=(1.0, 1.0, 1.0, 1.0), layer_ratios=(1.0, 1.0, 1.0))
    ),
)
