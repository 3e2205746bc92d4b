"""Where a config's data lies, and how one option moves all of it."""

import argparse
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from mmengine.config import Config, ConfigDict

from mmdet_salience.datasets import data_files, leaf_datasets, move_data_root, split_datasets

sys.path.insert(0, str(ROOT / 'tools'))

from _common import load_config

FOLDER = ROOT / 'configs' / 'salience_detr'
CUSTOM = FOLDER / 'salience-detr_r50_4xb2-10000i_custom.py'


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


@pytest.mark.parametrize(
    'new', ['data/custom/part1', 'data/custom/data/custom/', 'data/', 'data/custom2', '/abs/']
)
def test_data_moves_once(tmp_path: Path, new: str) -> None:
    """Also to a root that lies in the old one, or holds it, and through a dump."""
    cfg = Config.fromfile(CUSTOM)
    cfg.val_evaluator.ann_file = 'data/custom/annotations/val.json'
    cfg.merge_from_dict(dict(data_root=new))
    root = f'{new.rstrip("/")}/'
    for old_root in ('data/custom/', cfg.default_data_root, cfg.data_root, None):
        move_data_root(cfg, old_root)
        assert cfg.train_dataloader.dataset.data_root == root
        assert cfg.val_evaluator.ann_file == f'{root}annotations/val.json'
    cfg.dump(tmp_path / 'dumped.py')
    again = Config.fromfile(tmp_path / 'dumped.py')
    move_data_root(again, again.get('default_data_root'))
    assert again.val_dataloader == cfg.val_dataloader
    assert again.val_evaluator == cfg.val_evaluator
    again.data_root = '/third'
    move_data_root(again, again.default_data_root)
    assert again.val_evaluator.ann_file == '/third/annotations/val.json'


def test_a_neighbour_with_the_same_beginning_stays() -> None:
    dataset = dict(data_root='data/coco2/', ann_file='a.json')
    cfg = Config(dict(data_root='/new', train_dataloader=dict(dataset=dataset)))
    move_data_root(cfg, 'data/coco')
    assert cfg.train_dataloader.dataset.data_root == 'data/coco2/'
    cfg.train_dataloader.dataset.data_root = 'data/coco'
    move_data_root(cfg, 'data/coco')
    assert cfg.train_dataloader.dataset.data_root == '/new/'


def test_the_documented_line_with_a_nested_root() -> None:
    """As the tools read it, with a dataset of its own root that stays there."""
    options = {
        'data_root': 'data/custom/part1/',
        'val_dataloader.dataset.data_root': 'data/custom/other/',
    }
    run = argparse.Namespace(
        config=str(CUSTOM), data_root=None, cfg_options=options, launcher='none', work_dir='w'
    )
    cfg = load_config(run)
    move_data_root(cfg, cfg.default_data_root)  # as the runner does
    assert cfg.train_dataloader.dataset.data_root == 'data/custom/part1/'
    assert cfg.test_dataloader.dataset.data_root == 'data/custom/part1/'
    assert cfg.val_dataloader.dataset.data_root == 'data/custom/other/'


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
