# Focus-DETR, ResNet-50, COCO, 12 epochs. Published: 48.8 AP.
_base_ = [
    '../_base_/models/focus_detr_r50.py',
    '../_base_/datasets/coco_detection_detr.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]
