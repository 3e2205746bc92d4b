# ESD with the large backbone, docs/datasets/esd.md.
_base_ = [
    '../_base_/models/salience_detr_swin_l.py',
    '../_base_/datasets/esd.py',
    '../_base_/schedules/adamw_10000i.py',
    '../_base_/default_runtime_iters.py',
]
