"""DeepPCB; write its annotation files first with tools/dataset_converters/deeppcb2coco.py.

Boards have no preferred side, so images flip both ways. There is no validation split: the test
split serves both.
"""

dataset_type = 'CocoDataset'
# What `data_root` is set to, in a child config or by --cfg-options, moves all data.
default_data_root = 'data/deeppcb/'
data_root = default_data_root
backend_args = None
metainfo = dict(
    classes=('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'),
    palette=[
        (220, 20, 60),
        (30, 110, 220),
        (250, 170, 30),
        (40, 160, 80),
        (150, 60, 190),
        (0, 180, 190),
    ],
)
img_scale = (640, 640)
# Each of the four outcomes, no flip included, is as likely as the others: as if both axes were
# flipped on their own, but recorded correctly in the image's meta information.
flip_probs = [0.25, 0.25, 0.25]

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='RandomFlip', prob=flip_probs, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img=''),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/test.json',
        data_prefix=dict(img=''),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

# Without ann_file the metric reads the file of its dataloader.
val_evaluator = dict(type='CocoMetric', metric='bbox', format_only=False, backend_args=backend_args)
test_evaluator = val_evaluator
