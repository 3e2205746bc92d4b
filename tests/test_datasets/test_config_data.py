"""One option moves a config to another data folder."""

from helpers import ROOT
from mmengine.config import Config

from mmdet_salience.datasets import move_data_root


def test_datasets_and_evaluators_follow() -> None:
    cfg = Config.fromfile(ROOT / 'configs/salience_detr/salience-detr_r18_cpu_deeppcb-320.py')
    old = cfg.data_root
    cfg.merge_from_dict(dict(data_root='/elsewhere/boards'))
    move_data_root(cfg, old)
    assert cfg.train_dataloader.dataset.data_root == '/elsewhere/boards/'
    assert cfg.test_dataloader.dataset.data_root == '/elsewhere/boards/'
    assert cfg.val_evaluator.ann_file == '/elsewhere/boards/annotations/test.json'
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/train.json'


def test_nothing_happens_without_an_override() -> None:
    cfg = Config.fromfile(ROOT / 'configs/salience_detr/salience-detr_r50_8xb2-12e_coco.py')
    before = cfg.val_evaluator.ann_file
    move_data_root(cfg, cfg.data_root)
    assert cfg.val_evaluator.ann_file == before
