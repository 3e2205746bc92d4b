# Salience DETR, DINOv3-ConvNeXt-T, COCO, 12 epochs. No figures are published.
_base_ = [
    '../_base_/models/salience_detr_dinov3_convnext_t.py',
    '../_base_/datasets/coco_detection_detr.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]
