# Salience DETR with DINOv3-ConvNeXt-Tiny: ConvNeXt distilled from the self-supervised DINOv3, whose
# features transfer to surfaces unlike ImageNet's. Needs transformers, 4.56 or later.
#
# The weights are gated: accept the licence on https://huggingface.co/facebook/
# dinov3-convnext-tiny-pretrain-lvd1689m and run `hf auth login`, or give a folder that holds them:
#     --cfg-options model.backbone.pretrained=weights/dinov3-convnext-tiny
# They are read when a training starts; a trained checkpoint needs neither.
_base_ = './salience_detr_r50.py'

model = dict(
    # Mean and standard deviation of the R50 config are ImageNet's, which these weights expect too.
    backbone=dict(
        _delete_=True,
        type='TransformersBackbone',
        config=dict(
            model_type='dinov3_convnext',
            hidden_sizes=(96, 192, 384, 768),
            depths=(3, 3, 9, 3),
            # ConvNeXt-T's on ImageNet; the rates of the large models suit longer trainings.
            drop_path_rate=0.1,
        ),
        out_indices=(1, 2, 3),
        # Stem and first stage, as in the release's other backbones; the rest learns at a tenth of
        # the rate (the schedule's lr_mult).
        frozen_stages=1,
        pretrained='facebook/dinov3-convnext-tiny-pretrain-lvd1689m',
    ),
    neck=dict(in_channels=[192, 384, 768]),
)
