# Salience DETR with ConvNeXt-L, pretrained on ImageNet-1K (torchvision's V1 weights), as in the
# release. Needs transformers.
_base_ = './salience_detr_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TransformersBackbone',
        config=dict(
            model_type='convnext',
            hidden_sizes=(192, 384, 768, 1536),
            depths=(3, 3, 27, 3),
            drop_path_rate=0.5,
        ),
        out_indices=(1, 2, 3),
        frozen_stages=1,
        output_norm=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/convnext_large-ea097f82.pth',
        ),
    ),
    neck=dict(in_channels=[384, 768, 1536]),
)
