# Salience DETR, ConvNeXt-L, COCO, 12 epochs. Published by the release: 54.2 AP.
_base_ = [
    '../_base_/models/salience_detr_convnext_l.py',
    '../_base_/datasets/coco_detection_detr.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]

# The release calls these norms by numbers, so its optimizer decays their weights.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'layernorm.weight': dict(decay_mult=1.0)}))
