"""Trainings on data with broken images: they go on and count, or stop and say why."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_samples import make_coco, write_coco, write_image
from helpers import ROOT
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_salience.datasets.image_content import ImageError
from mmdet_salience.datasets.transforms import LoadCheckedImage
from mmdet_salience.engine.checked_images import BadImages, leaf_datasets, read_settings, skip_limit

CUSTOM = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_4xb2-10000i_custom.py'
SIDE = 64


@pytest.fixture(autouse=True)
def _plain_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print configs as they come: laying them out takes most of the time of such a run."""
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: repr(cfg.to_dict())))


class BlindDetector(BaseModel):
    """A detector that costs no time and sees nothing.

    Args:
        data_preprocessor: Config of the preprocessor.
    """

    def __init__(self, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor, data_samples: list, mode: str) -> Any:
        """A loss, or the same detection everywhere."""
        if mode == 'loss':
            return dict(loss=self.weight * inputs.mean())
        for sample in data_samples:
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[0, 0, 9, 9]]),
                scores=torch.tensor([0.5]),
                labels=torch.tensor([0]),
            )
        return data_samples


def write_data(root: Path, num_images: int = 10) -> Path:
    """Write training and validation data of two classes."""
    (root / 'annotations').mkdir(parents=True)
    for split, start in (('train', 1), ('val', 101)):
        content = make_coco(num_images, start, folder=f'{split}/')
        write_coco(root, content, f'annotations/{split}.json')
    return root


def make_config(root: Path, workers: int = 0, iterations: int = 4, **data_check: Any) -> Config:
    """A config that trains on the data."""
    cfg = Config.fromfile(CUSTOM)
    cfg.data_root = str(root)
    cfg.work_dir = str(root / 'work')
    cfg.model = dict(
        type=BlindDetector, data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32)
    )
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs'),
    ]
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=workers, persistent_workers=workers > 0)
        if split != 'train':
            loader.dataset.pipeline[1].scale = (SIDE, SIDE)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=iterations)
    cfg.data_check = dict(max_headers=0, **data_check)
    return cfg


def build(cfg: Config) -> Runner:
    """Build the runner."""
    return RUNNERS.build(cfg)


def damage(root: Path, split: str, *numbers: int) -> list[str]:
    """Cut images; the names of their files."""
    files = [root / split / f'{number}.png' for number in numbers]
    for file in files:
        file.write_bytes(file.read_bytes()[:-30])
    return list(map(str, files))


def log_of(runner: Runner) -> str:
    """What the run has logged."""
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


@pytest.mark.parametrize('workers', [0, 2])
def test_training_goes_on_and_counts(tmp_path: Path, workers: int) -> None:
    cfg = make_config(write_data(tmp_path, 20), workers, iterations=12)
    names = damage(tmp_path, 'train', 3, 7) + damage(tmp_path, 'val', 105)
    runner = build(cfg)
    runner.train()
    faults = runner.fault_record.read()
    assert sorted(fault.path for fault in faults) == sorted(names)
    log = log_of(runner)
    for name in names:
        assert log.count(f'Skipped {name} ') == 1, 'one warning a file'
    assert 'Skipped images so far: 2 of train, 1 of val' in log
    assert log.count('Skipped images in all: 2 of train, 1 of val') == 1
    assert 'coco/bbox_mAP' in log
    assert Path(runner.work_dir, 'iter_12.pth').is_file()


def test_nothing_to_skip(tmp_path: Path) -> None:
    runner = build(make_config(write_data(tmp_path), iterations=2))
    runner.train()
    assert 'Skipped images in all: none' in log_of(runner)
    assert not Path(runner.fault_record.path).exists()


def test_too_many_broken_images_end_the_training(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path, 10), iterations=50)
    damage(tmp_path, 'train', *range(1, 6))
    with pytest.raises(ImageError, match='2 of 10 images of train cannot be used'):
        build(cfg).train()


def test_largest_share_is_a_setting(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path, 10), 0, 12, bad_images=dict(max_share=0.5))
    names = damage(tmp_path, 'train', *range(1, 6))
    runner = build(cfg)
    runner.train()
    assert {fault.path for fault in runner.fault_record.read('train')} == set(names)
    cfg.data_check.bad_images.max_share = 0.4
    with pytest.raises(ImageError, match='5 of 10 images of train'):
        build(cfg).train()


def test_all_broken_ends_at_once(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path, 4), 0, 5, bad_images=dict(max_share=1))
    damage(tmp_path, 'train', *range(1, 5))
    with pytest.raises(ImageError, match='4 of 4 images of train'):
        build(cfg).train()


@pytest.mark.parametrize('split, number', [('train', 2), ('val', 102)])
def test_stopping_is_a_setting(tmp_path: Path, split: str, number: int) -> None:
    cfg = make_config(write_data(tmp_path, 4), 0, 12, bad_images={split: 'stop'})
    (name,) = damage(tmp_path, split, number)
    with pytest.raises(ImageError, match='not a readable image') as caught:
        build(cfg).train()
    assert name in str(caught.value)


def test_test_stops_unless_told_otherwise(tmp_path: Path) -> None:
    write_data(tmp_path, 4)
    (name,) = damage(tmp_path, 'val', 102)
    with pytest.raises(ImageError, match='1 of 4 images of test') as caught:
        build(make_config(tmp_path)).test()
    assert name in str(caught.value)
    runner = build(make_config(tmp_path, bad_images=dict(test='skip')))
    metrics = runner.test()
    assert 'coco/bbox_mAP' in metrics
    assert 'Skipped images in all: 1 of test' in log_of(runner)


def test_image_that_breaks_at_night(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path, 6), iterations=12)
    cfg.train_cfg.val_interval = 4
    runner = build(cfg)
    runner.register_hook(BreakImages(tmp_path))
    runner.train()
    assert {fault.path for fault in runner.fault_record.read()} == {
        str(tmp_path / 'train' / '1.png'),
        str(tmp_path / 'val' / '101.png'),
    }


class BreakImages(Hook):
    """Remove an image of each split after some iterations."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Remove them."""
        if runner.iter == 2:
            (self.root / 'train' / '1.png').unlink()
            (self.root / 'val' / '101.png').write_bytes(b'')


def test_wrong_size_is_skipped_unless_it_is_allowed(tmp_path: Path) -> None:
    write_data(tmp_path, 4)
    write_image(tmp_path / 'train' / '2.png', (30, 40))
    runner = build(make_config(tmp_path, iterations=8))
    runner.train()
    (fault,) = runner.fault_record.read()
    assert fault.reason == '64x48 in the annotations, but 30x40 in the file'
    runner = build(make_config(tmp_path, iterations=8, allow=['size_mismatch']))
    runner.train()
    assert runner.fault_record.read() == []


def test_check_before_training_names_all(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path, 20))
    cfg.data_check = dict(max_headers=None)
    names = damage(tmp_path, 'train', 1, 4) + damage(tmp_path, 'val', 103)
    with pytest.raises(ValueError, match=r'unreadable_image \(2\)') as caught:
        build(cfg).train()
    for name in names:
        assert f'{Path(name).parent.name}/{Path(name).name}' in str(caught.value)
    cfg.data_check.allow = ['unreadable_image']
    runner = build(cfg)
    runner.train()
    assert sorted(f.path for f in runner.fault_record.read('val')) == names[2:]


def test_switched_off(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path, 4))
    damage(tmp_path, 'train', *range(1, 5))
    for setting in (None, dict(max_headers=0, bad_images=None)):
        cfg.data_check = setting
        with pytest.raises(AssertionError, match='failed to load image'):
            build(cfg).train()


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(training='skip'), 'no key training'),
        (dict(train='ignore'), "train='ignore' must be one of"),
        (dict(max_share=2), 'max_share=2 must be a number'),
        (dict(max_share='all'), "max_share='all' must be"),
    ],
)
def test_wrong_settings(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f'data_check.bad_images.*{message}'):
        read_settings(dict(bad_images=given))


def test_settings() -> None:
    assert read_settings({}) == BadImages('skip', 'skip', 'stop', 0.1)
    assert read_settings(dict(bad_images=dict(test='skip'))).test == 'skip'
    assert read_settings(None) is None and read_settings(dict(bad_images=None)) is None


def test_how_many_may_be_skipped() -> None:
    shares = {(1000, 0.1): 100, (5, 0.1): 1, (5, 0): 1, (5, 1): 4, (1, 1): 0, (0, 0.1): 0}
    assert {key: skip_limit(*key) for key in shares} == shares


def test_wrapped_data_sets_are_checked(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path, 4))
    plain = cfg.train_dataloader.dataset.copy()
    repeated = dict(type='RepeatDataset', dataset=plain, times=2)
    both = dict(type='ConcatDataset', datasets=[plain, repeated])
    pipeline = [dict(type='PackDetInputs')]
    cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset', dataset=both, pipeline=pipeline
    )
    cfg.train_dataloader.num_batch_per_epoch = 2
    plain.pipeline = plain.pipeline[:-1]
    runner = build(cfg)
    dataset = runner.train_loop.dataloader.dataset
    leaves = list(leaf_datasets(dataset))
    assert len(leaves) == 2
    for leaf in leaves:
        loader = leaf.pipeline.transforms[0]
        assert isinstance(loader, LoadCheckedImage)
        assert (loader.policy.num_images, loader.policy.split) == (8, 'train')


def test_thin_images_are_listed_before_and_skipped_later(tmp_path: Path) -> None:
    """One whose sides the pipeline would round to 0 is treated like other unusable images."""
    cfg = make_config(write_data(tmp_path), iterations=8)
    cfg.train_dataloader.dataset.pipeline.insert(
        2, dict(type='Resize', scale=(SIDE, SIDE), keep_ratio=True)
    )
    for split, number in (('train', 2), ('val', 103)):
        write_image(tmp_path / split / f'{number}.png', (400, 3))
        path = tmp_path / f'annotations/{split}.json'
        content = json.loads(path.read_text())
        image = next(image for image in content['images'] if image['id'] == number)
        image.update(width=400, height=3)
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] != number]
        path.write_text(json.dumps(content))
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    with pytest.raises(ValueError, match=r'(?s)thin_image \(1\).*train/2\.png \(id 2\): 400x3'):
        build(cfg).train()
    cfg.data_check.allow = ['thin_image']
    runner = build(cfg)
    runner.train()
    faults = {Path(fault.path).name: fault.reason for fault in runner.fault_record.read()}
    assert set(faults) == {'2.png', '103.png'}
    assert all('400x3 is too thin' in reason for reason in faults.values())


def test_images_outside_the_data_are_refused_unless_allowed(tmp_path: Path) -> None:
    cfg = make_config(write_data(tmp_path / 'data'))
    path = tmp_path / 'data/annotations/train.json'
    content = json.loads(path.read_text())
    (tmp_path / 'data/train/3.png').rename(tmp_path / '3.png')
    content['images'][2]['file_name'] = '../3.png'
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'(?s)image_outside \(1\).*\.\./3\.png \(id 3\)'):
        build(cfg).train()
    cfg.data_check.allow = ['image_outside']
    runner = build(cfg)
    runner.train()
    assert runner.fault_record.read() == []
