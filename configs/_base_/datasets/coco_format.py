"""Any data set in COCO format, as the converters write it.

`data_root` holds annotations/train.json and annotations/val.json, whose file names start from
`data_root`. Class names come from the files. Surfaces have no preferred side, so images flip both
ways; for scenes with an up and a down set train_pipeline as in coco_detection_detr.py.
"""

_base_ = './coco_detection_detr.py'

default_data_root = 'data/custom/'
data_root = default_data_root

# Each of the four outcomes, no flip included, is as likely as the others.
train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
)

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/train.json',
        data_prefix=dict(img=''),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, ann_file='annotations/val.json', data_prefix=dict(img=''))
)
test_dataloader = val_dataloader

# Before training, and what happens to images that cannot be used; see docs/datasets/faults.md.
data_check = dict(
    allow=[],
    max_headers=1000,
    bad_images=dict(train='skip', val='skip', test='stop', max_share=0.1),
)
