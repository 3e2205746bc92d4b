"""A config follows its data: roots, files, classes, from the runner to ``init_detector``."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, tiny_model_cfg
from mmdet.apis import inference_detector, init_detector
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdet_salience.datasets import move_data_root
from mmdet_salience.engine import fit_to_data

CUSTOM = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_4xb2-10000i_custom.py'
SIDE = 64


def write_split(
    root: Path, split: str, classes: Sequence[str], num_images: int = 2, broken: str = ''
) -> Path:
    """Write images with a square each and their annotations, class after class."""
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(num_images):
        name = f'{split}_{i}.png'
        picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
        picture[8 + i : 32 + i, 16:40] = 200
        if broken != 'missing':
            cv2.imwrite(str(root / name), picture)
        images.append(dict(id=i, file_name=name, width=SIDE, height=SIDE))
        box = [16, 8 + i, 0 if broken == 'degenerate' else 24, 24]
        annotations.append(
            dict(id=i, image_id=i, category_id=10 + i % len(classes), bbox=box, area=576, iscrowd=0)
        )
    categories = [dict(id=10 + i, name=name) for i, name in enumerate(classes)]
    path = root / 'annotations' / f'{split}.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


def write_data(root: Path, classes: Sequence[str], broken: str = '') -> Path:
    """Write a training and a validation split."""
    write_split(root, 'train', classes, broken=broken)
    write_split(root, 'val', classes)
    return root


def custom_config(root: Path, iterations: int = 1) -> Config:
    """The custom config with a tiny model, as ``--cfg-options data_root=...`` leaves it."""
    cfg = Config.fromfile(CUSTOM)
    cfg.data_root = str(root)
    cfg.model = tiny_model_cfg()
    cfg.model.bbox_head.num_classes = None
    small = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    cfg.train_dataloader.dataset.pipeline = [*small, dict(type='PackDetInputs')]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.pipeline[1].scale = (SIDE, SIDE)
    cfg.val_dataloader.dataset.pipeline[1].scale = (SIDE, SIDE)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=iterations)
    cfg.work_dir = str(root / 'work')
    return cfg


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config names."""
    return RUNNERS.build(cfg)


def test_one_line_is_enough(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore', 'crack')))
    fit = fit_to_data(cfg)
    assert fit.classes == ('pore', 'crack')
    assert cfg.model.bbox_head.num_classes == 2
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert (dataset.data_root, dataset.metainfo.classes) == (f'{tmp_path}/', ('pore', 'crack'))
    assert cfg.val_evaluator.ann_file == f'{tmp_path}/annotations/val.json'
    assert cfg.test_evaluator.ann_file == cfg.val_evaluator.ann_file


def test_fitting_twice_changes_nothing_more(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore', 'crack')))
    fit_to_data(cfg)
    once = cfg.to_dict()
    fit_to_data(cfg)
    assert cfg.to_dict() == once


def test_a_root_within_the_default_one_is_moved_to_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the tools, by the runner after them, and by both for the dumped config."""
    monkeypatch.chdir(tmp_path)
    cfg = custom_config(write_data(Path('data/custom/part1'), ('pore', 'crack')))
    for name in ('first.py', 'second.py'):
        move_data_root(cfg, 'data/custom/')
        fit_to_data(cfg)
        assert cfg.train_dataloader.dataset.data_root == 'data/custom/part1/'
        assert cfg.val_evaluator.ann_file == 'data/custom/part1/annotations/val.json'
        cfg.dump(name)
        cfg = Config.fromfile(name)


def test_child_config_of_three_lines(tmp_path: Path) -> None:
    write_data(tmp_path, ('pore',))
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = '{CUSTOM}'\n\ndata_root = '{tmp_path}/'\n")
    cfg = Config.fromfile(child)
    assert fit_to_data(cfg).classes == ('pore',)
    assert cfg.train_dataloader.dataset.data_root == f'{tmp_path}/'


def test_explicit_roots_stay(tmp_path: Path) -> None:
    write_data(tmp_path / 'a', ('pore',))
    write_data(tmp_path / 'b', ('pore',))
    cfg = custom_config(tmp_path / 'a')
    cfg.val_dataloader.dataset.data_root = f'{tmp_path}/b/'
    fit_to_data(cfg)
    assert cfg.train_dataloader.dataset.data_root == f'{tmp_path}/a/'
    assert cfg.val_evaluator.ann_file == f'{tmp_path}/b/annotations/val.json'


def test_coco_keeps_its_own_metainfo(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, CocoDataset.METAINFO['classes']))
    assert len(fit_to_data(cfg).classes) == 80
    assert 'metainfo' not in cfg.train_dataloader.dataset
    assert cfg.model.bbox_head.num_classes == 80


def test_palette_is_long_enough(tmp_path: Path) -> None:
    names = [f'part {i}' for i in range(100)]
    cfg = custom_config(write_data(tmp_path, names))
    fit_to_data(cfg)
    assert len(cfg.train_dataloader.dataset.metainfo.palette) == 100


def test_part_of_the_classes_may_be_stated(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore', 'crack', 'scratch')))
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=('pore', 'scratch'))
    assert fit_to_data(cfg).classes == ('pore', 'scratch')
    assert cfg.model.bbox_head.num_classes == 2


@pytest.mark.parametrize(
    'stated, reason',
    [
        (('pore', 'dent'), 'only in the config: dent'),
        (('crack', 'pore'), 'first difference: class 0 is crack in the config, pore in the file'),
    ],
)
def test_contradictory_classes_show_both_lists(
    tmp_path: Path, stated: Sequence[str], reason: str
) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore', 'crack')))
    cfg.train_dataloader.dataset.metainfo = dict(classes=stated)
    with pytest.raises(ValueError, match=r'contradict .*annotations/train.json') as error:
        fit_to_data(cfg)
    text = str(error.value)
    assert reason in text
    assert f'the config: {", ".join(stated)}' in text and 'the file: pore, crack' in text
    assert 'train_dataloader.dataset.metainfo=None' in text


@pytest.mark.parametrize('val', [('crack', 'pore'), ('pore',), ('pore', 'crack', 'dent')])
def test_train_and_val_must_agree(tmp_path: Path, val: Sequence[str]) -> None:
    write_split(tmp_path, 'train', ('pore', 'crack'))
    write_split(tmp_path, 'val', val)
    with pytest.raises(ValueError, match='The classes of train and val differ') as error:
        fit_to_data(custom_config(tmp_path))
    assert f'val.json: {", ".join(val)}' in str(error.value)
    assert 'train.json: pore, crack' in str(error.value)


def test_stated_number_must_be_right(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore', 'crack')))
    cfg.model.bbox_head.num_classes = 3
    with pytest.raises(ValueError, match=r'bbox_head.num_classes=3, but the data has 2: pore'):
        fit_to_data(cfg)


def test_metric_must_read_the_file_of_its_loader(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore',)))
    cfg.val_evaluator.ann_file = 'elsewhere.json'
    with pytest.raises(ValueError, match=r'val_evaluator.ann_file=elsewhere.json.*leave'):
        fit_to_data(cfg)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'annotations/train.json.*data_root='):
        fit_to_data(custom_config(tmp_path / 'nothing'))
    write_split(tmp_path, 'train', ('pore',))
    runner = build_runner(custom_config(tmp_path))
    with pytest.raises(FileNotFoundError, match=r'val.json.*it holds train.json'):
        runner.train()


@pytest.mark.parametrize('stated, number', [(None, 20), (('car', 'dog'), 2)])
def test_other_dataset_types_say_their_classes(stated: Sequence[str] | None, number: int) -> None:
    cfg = custom_config(Path('nowhere'))
    for split in ('train', 'val', 'test'):
        metainfo = None if stated is None else dict(classes=stated)
        dataset = dict(type='VOCDataset', ann_file='a.txt', metainfo=metainfo)
        cfg[f'{split}_dataloader'].dataset = dataset
    fit_to_data(cfg)
    assert cfg.model.bbox_head.num_classes == number


def test_wrapped_datasets_are_fitted(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore', 'crack')))
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=dict(type='ConcatDataset', datasets=[inner, inner])
    )
    fit_to_data(cfg)
    for dataset in cfg.train_dataloader.dataset.dataset.datasets:
        assert dataset.metainfo.classes == ('pore', 'crack')


@pytest.mark.parametrize(
    'broken, kind', [('missing', 'missing_image'), ('degenerate', 'degenerate_box')]
)
def test_errors_stop_before_training(tmp_path: Path, broken: str, kind: str) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore',), broken))
    with pytest.raises(ValueError, match='nothing was trained') as error:
        build_runner(cfg).train()
    assert f'data_check.allow=[{kind}]' in str(error.value)
    assert not list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize('setting', [None, dict(allow=['degenerate_box'])])
def test_errors_can_be_allowed(tmp_path: Path, setting: dict | None) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore',), 'degenerate'))
    cfg.data_check = setting
    runner = build_runner(cfg)
    runner.prepare_training()
    assert runner.data_fit.splits == ()


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a data set with two classes and a checkpoint after one step."""
    root = write_data(tmp_path_factory.mktemp('trained'), ('pore', 'crack'))
    build_runner(custom_config(root)).train()
    return root


def test_checkpoint_carries_its_classes(trained: Path) -> None:
    checkpoint = torch.load(trained / 'work' / 'iter_1.pth', weights_only=False)
    assert checkpoint['meta']['dataset_meta']['classes'] == ('pore', 'crack')
    assert len(checkpoint['state_dict']['bbox_head.cls_branches.0.weight']) == 2
    assert len(checkpoint['state_dict']['dn_query_generator.label_embedding.weight']) == 2


@pytest.mark.parametrize('dumped', [False, True])
def test_init_detector_takes_the_classes_of_the_checkpoint(
    trained: Path, tmp_path: Path, dumped: bool
) -> None:
    cfg = custom_config(tmp_path)
    if dumped:  # what the run has left beside its checkpoints
        cfg = Config.fromfile(next((trained / 'work').glob('*.py')))
    checkpoint = trained / 'work' / 'iter_1.pth'
    model = init_detector(cfg, str(checkpoint), device='cpu')
    assert model.dataset_meta['classes'] == ('pore', 'crack')
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    for name in ('bbox_head.cls_branches.2.bias', 'dn_query_generator.label_embedding.weight'):
        torch.testing.assert_close(model.state_dict()[name], weights[name], rtol=0, atol=0)
    found = inference_detector(model, np.full((SIDE, SIDE, 3), 60, np.uint8)).pred_instances
    assert len(found) > 0 and found.labels.max() < 2


def test_other_classes_start_fresh_in_training(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = custom_config(write_data(tmp_path, ('a', 'b', 'c')))
    cfg.load_from = str(trained / 'work' / 'iter_1.pth')
    runner = build_runner(cfg)
    runner.train()
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert log.count('The checkpoint has 2 classes and the model 3; these weights start fresh') == 1
    assert 'size mismatch' not in log


def test_test_refuses_other_classes(trained: Path, tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('crack', 'pore')))
    cfg.load_from = str(trained / 'work' / 'iter_1.pth')
    with pytest.raises(ValueError, match='trained for other classes') as error:
        build_runner(cfg).test()
    assert '2: pore, crack' in str(error.value) and '2: crack, pore' in str(error.value)


def test_only_named_splits_are_read(trained: Path, tmp_path: Path) -> None:
    write_split(tmp_path, 'val', ('pore', 'crack'))
    (tmp_path / 'annotations' / 'train.json').write_text('broken')
    cfg = custom_config(tmp_path)
    cfg.load_from = str(trained / 'work' / 'iter_1.pth')
    with pytest.raises(ValueError, match=r'train.json is not valid JSON'):
        build_runner(cfg)
    cfg.fit_splits = ['test']
    runner = build_runner(cfg)
    assert [data.split for data in runner.data_fit.splits] == ['test']
    assert 'fit_splits' not in runner.cfg


def test_test_works_without_training_data(trained: Path, tmp_path: Path) -> None:
    write_split(tmp_path, 'val', ('pore', 'crack'))
    cfg = custom_config(tmp_path)
    cfg.load_from = str(trained / 'work' / 'iter_1.pth')
    assert 'coco/bbox_mAP' in build_runner(cfg).test()
