"""Synthetic surface defects; write them first with tools/dataset_converters/synthetic_defects.py.

Images keep their size, 128 x 128 pixels by default; a set of another size needs no change here.
"""

dataset_type = 'CocoDataset'
# What `data_root` is set to, in a child config or by --cfg-options, moves all data.
default_data_root = 'data/synthetic_defects/'
data_root = default_data_root
backend_args = None
metainfo = dict(
    classes=('scratch', 'pit', 'stain'), palette=[(230, 80, 60), (60, 120, 230), (240, 180, 40)]
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# The resize by 1 only records the scale factor that predictions are divided by.
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

# Without ann_file the metric reads the file of its dataloader.
val_evaluator = dict(type='CocoMetric', metric='bbox', format_only=False, backend_args=backend_args)
test_evaluator = val_evaluator
