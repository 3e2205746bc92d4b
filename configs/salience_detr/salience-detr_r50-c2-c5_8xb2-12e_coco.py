# ResNet-50 on C2..C5: strides 4 to 32, without the extra level. The release has this config (with
# 500 background embeddings for the larger maps) but no figures for it.
_base_ = './salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    feature_strides=(4, 8, 16, 32),
    backbone=dict(out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
    encoder=dict(background_embedding=dict(num_embeddings=500)),
)
