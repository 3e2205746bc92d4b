# Background embedding of relative instead of absolute places.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    encoder=dict(background_embedding=dict(type='RelativeBackgroundEmbedding')),
)
