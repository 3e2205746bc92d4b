"""Where a config's data lies, and how one option moves all of it."""

from helpers import ROOT
from mmengine.config import Config, ConfigDict

from mmdet_salience.datasets import data_files, leaf_datasets, move_data_root, split_datasets

FOLDER = ROOT / 'configs' / 'salience_detr'


def test_datasets_and_evaluators_follow() -> None:
    cfg = Config.fromfile(FOLDER / 'salience-detr_r18_cpu_deeppcb-320.py')
    cfg.val_evaluator.ann_file = cfg.data_root + 'annotations/test.json'
    old = cfg.data_root
    cfg.merge_from_dict(dict(data_root='/elsewhere/boards'))
    move_data_root(cfg, old)
    assert cfg.train_dataloader.dataset.data_root == '/elsewhere/boards/'
    assert cfg.test_dataloader.dataset.data_root == '/elsewhere/boards/'
    assert cfg.val_evaluator.ann_file == '/elsewhere/boards/annotations/test.json'
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/train.json'


def test_nothing_happens_without_an_override() -> None:
    cfg = Config.fromfile(FOLDER / 'salience-detr_r50_8xb2-12e_coco.py')
    before = cfg.to_dict()
    move_data_root(cfg, cfg.data_root)
    assert cfg.to_dict() == before


def test_files_of_a_dataset() -> None:
    relative = dict(data_root='a/', ann_file='b.json', data_prefix=dict(img='c/'))
    assert data_files(ConfigDict(relative)) == ('a/b.json', 'a/c/')
    absolute = dict(data_root='a/', ann_file='/b.json', data_prefix=dict(img='s3://c/'))
    assert data_files(ConfigDict(absolute)) == ('/b.json', 's3://c/')
    assert data_files(ConfigDict(ann_file='b.json')) == ('b.json', '')


def test_wrappers_are_walked() -> None:
    one, two = ConfigDict(type='A'), ConfigDict(type='B')
    joined = ConfigDict(type='ConcatDataset', datasets=[dict(type='Repeat', dataset=one), two])
    assert [dataset.type for dataset in leaf_datasets(joined)] == ['A', 'B']
    cfg = Config(dict(train_dataloader=dict(dataset=joined), val_dataloader=None))
    assert len(split_datasets(cfg, 'train')) == 2
    assert split_datasets(cfg, 'val') == split_datasets(cfg, 'test') == []
