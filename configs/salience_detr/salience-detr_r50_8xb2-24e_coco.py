# Salience DETR, ResNet-50, COCO, 24 epochs. Published by the release: 51.2 AP.
_base_ = [
    '../_base_/models/salience_detr_r50.py',
    '../_base_/datasets/coco_detection_detr.py',
    '../_base_/schedules/adamw_24e.py',
    '../_base_/default_runtime.py',
]
