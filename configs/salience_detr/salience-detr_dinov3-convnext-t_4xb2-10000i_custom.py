# Your own data with DINOv3-ConvNeXt-T, the backbone that we recommend for defects:
# --cfg-options data_root=FOLDER is enough, once you have access to the weights
# (../_base_/models/salience_detr_dinov3_convnext_t.py).
_base_ = [
    '../_base_/models/salience_detr_dinov3_convnext_t.py',
    '../_base_/datasets/coco_format.py',
    '../_base_/schedules/adamw_10000i.py',
    '../_base_/default_runtime_iters.py',
]
