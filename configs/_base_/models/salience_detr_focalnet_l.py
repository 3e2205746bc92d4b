# Salience DETR with FocalNet-L (large receptive field, four focal levels), pretrained on
# ImageNet-22K at 384 px, as in the release. Needs transformers.
_base_ = './salience_detr_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNetBackbone',
        config=dict(
            embed_dim=192,
            depths=(2, 2, 18, 2),
            focal_levels=(4, 4, 4, 4),
            focal_windows=(3, 3, 3, 3),
            drop_path_rate=0.5,
            use_conv_embed=True,
            use_layerscale=True,
            use_post_layernorm=True,
            normalize_modulator=True,
        ),
        out_indices=(1, 2, 3),
        frozen_stages=1,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/'
            'focalnet_large_lrf_384_fl4.pth',
        ),
    ),
    neck=dict(in_channels=[384, 768, 1536]),
)
