# Salience DETR with Swin-L, pretrained on ImageNet-22K at 224 px, as in the release.
_base_ = './salience_detr_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TorchvisionSwinTransformer',
        embed_dims=192,
        depths=(2, 2, 18, 2),
        num_heads=(6, 12, 24, 48),
        window_size=7,
        drop_path_rate=0.2,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        with_cp=True,
        convert_weights=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
            'swin_large_patch4_window7_224_22k.pth',
        ),
    ),
    neck=dict(in_channels=[384, 768, 1536]),
)
