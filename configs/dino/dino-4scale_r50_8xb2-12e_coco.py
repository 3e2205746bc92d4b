# DINO, four levels, ResNet-50, COCO, 12 epochs. Published: 49.0 AP (the DINO authors).
_base_ = [
    '../_base_/models/dino_4scale_r50.py',
    '../_base_/datasets/coco_detection_detr.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]
