# Your own data: --cfg-options data_root=FOLDER is enough. FOLDER holds annotations/train.json and
# annotations/val.json; classes and their number come from there.
_base_ = [
    '../_base_/models/salience_detr_r50.py',
    '../_base_/datasets/coco_format.py',
    '../_base_/schedules/adamw_10000i.py',
    '../_base_/default_runtime_iters.py',
]
