# MSSD: mobile-phone screens, docs/datasets/mssd.md.
_base_ = [
    '../_base_/models/salience_detr_r50.py',
    '../_base_/datasets/mssd.py',
    '../_base_/schedules/adamw_10000i.py',
    '../_base_/default_runtime_iters.py',
]
