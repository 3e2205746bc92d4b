"""COCO 2017 with the augmentation of the DETR family: a random short side and random crops."""

dataset_type = 'CocoDataset'
# What `data_root` is set to, in a child config or by --cfg-options, moves all data.
default_data_root = 'data/coco/'
data_root = default_data_root
backend_args = None

# Both branches of the training pipeline end with a short side drawn from this list.
max_long_side = 1333
train_scales = [(short_side, max_long_side) for short_side in range(480, 801, 32)]
# Short sides before the crop. The long side is only bounded to keep extreme aspect ratios sane.
crop_scales = [(400, 4200), (500, 4200), (600, 4200)]
test_scale = (1333, 800)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(type='RandomChoiceResize', scales=train_scales, keep_ratio=True),
            ],
            [
                dict(type='RandomChoiceResize', scales=crop_scales, keep_ratio=True),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                dict(type='RandomChoiceResize', scales=train_scales, keep_ratio=True),
            ],
        ],
    ),
    dict(type='PackDetInputs'),
]
# The boxes are loaded after the resize: the metric works in pixels of the original image.
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

# Images without objects are kept for training, as in DINO.
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
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
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

# Without ann_file the metric reads the file of its dataloader.
val_evaluator = dict(type='CocoMetric', metric='bbox', format_only=False, backend_args=backend_args)
test_evaluator = val_evaluator

# The official files are as they are: two boxes have no area, and none shall stop a run at its edge.
data_check = dict(allow=['degenerate_box', 'box_outside_image'], max_headers=1000)
