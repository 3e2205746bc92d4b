"""CSD: subtle casting surface defects, docs/datasets/csd.md."""

_base_ = './coco_format.py'

default_data_root = 'data/csd/'
data_root = default_data_root

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root, ann_file='annotations/test.json'))
