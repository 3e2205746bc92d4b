# No background embedding.
_base_ = '../salience_detr/salience-detr_r18_1xb8-750i_synthetic.py'

model = dict(
    encoder=dict(background_embedding=None),
)
