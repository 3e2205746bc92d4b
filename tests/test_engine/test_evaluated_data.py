"""Joined and repeated datasets are evaluated rightly, or refused before the first step."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from test_data_fit import build_runner, custom_config, write_data, write_split

from mmdet_salience.engine import fit_to_data
from mmdet_salience.engine.evaluated_data import require_evaluable

COCO = dict(type='CocoMetric', metric='bbox')


def config(root: Path, wrapper: str, split: str = 'val', **settings: Any) -> Config:
    """The custom config with two validation files, and a wrapper around its validation data."""
    write_data(root, ('pore',))
    write_split(root, 'more', ('pore',), num_images=3)
    cfg = custom_config(root)
    one = cfg.val_dataloader.dataset
    two = copy.deepcopy(one)
    two.ann_file = 'annotations/more.json'
    inner = dict(datasets=[one, two]) if wrapper == 'ConcatDataset' else dict(dataset=one)
    cfg[f'{split}_dataloader'].dataset = ConfigDict(type=wrapper, **inner, **settings)
    return cfg


def shift_ids(path: Path, by: int) -> None:
    """Give the images of an annotation file other ids."""
    content = json.loads(path.read_text())
    for image in content['images']:
        image['id'] += by
    for annotation in content['annotations']:
        annotation['image_id'] += by
    path.write_text(json.dumps(content))


def join(root: Path) -> str:
    """Write an annotation file with the images of both."""
    parts = [json.loads((root / 'annotations' / f'{n}.json').read_text()) for n in ('val', 'more')]
    joined = {**parts[0], 'images': [image for part in parts for image in part['images']]}
    objects = [dict(a) for part in parts for a in part['annotations']]
    joined['annotations'] = [dict(a, id=number) for number, a in enumerate(objects)]
    path = root / 'annotations' / 'joined.json'
    path.write_text(json.dumps(joined))
    return str(path)


def perfect(inputs: Any, data_samples: list, mode: str) -> list:
    """A detector that finds the objects."""
    for sample in data_samples:
        boxes = [one['bbox'] for one in sample.instances]
        labels = [one['bbox_label'] for one in sample.instances]
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            labels=torch.tensor(labels),
            scores=torch.ones(len(boxes)),
        )
    return data_samples


def refusal(cfg: Config, split: str = 'val') -> str:
    """Why the data of a split is refused."""
    fit_to_data(cfg)
    with pytest.raises(ValueError) as error:
        require_evaluable(cfg, split)
    return str(error.value)


@pytest.mark.parametrize(
    'wrapper, settings',
    [('RepeatDataset', dict(times=2)), ('ClassBalancedDataset', dict(oversample_thr=0.5))],
)
@pytest.mark.parametrize('split', ['val', 'test'])
def test_repeated_images_are_refused(
    tmp_path: Path, wrapper: str, settings: dict, split: str
) -> None:
    """They would be counted as often as they are shown, and no error would say so."""
    text = refusal(config(tmp_path, wrapper, split, **settings), split)
    assert text.startswith(f'{split}_dataloader.dataset.type={wrapper} shows images several times')
    assert f'which {split}_evaluator would count' in text and 'name the dataset inside it' in text


def test_repeated_once_is_the_dataset(tmp_path: Path) -> None:
    cfg = config(tmp_path, 'RepeatDataset', times=1)
    fit_to_data(cfg)
    require_evaluable(cfg, 'val')
    assert cfg.val_evaluator.ann_file == f'{tmp_path}/annotations/val.json'


def test_repeated_part_of_joined_datasets_is_found(tmp_path: Path) -> None:
    cfg = config(tmp_path, 'ConcatDataset')
    parts = cfg.val_dataloader.dataset.datasets
    parts[1] = ConfigDict(type='mmdet.RepeatDataset', times=2, dataset=parts[1])
    assert 'val_dataloader.dataset.datasets[1].type=RepeatDataset' in refusal(cfg)


def test_joined_datasets_are_refused_before_training(tmp_path: Path) -> None:
    cfg = config(tmp_path, 'ConcatDataset')
    with pytest.raises(ValueError, match='joins 2 datasets, and val_evaluator has no ann_file'):
        build_runner(cfg).train()
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_remedy_is_one_that_works(tmp_path: Path) -> None:
    """A metric for each dataset, each with the file of its own."""
    cfg = config(tmp_path, 'ConcatDataset')
    assert 'MultiDatasetsEvaluator' in refusal(cfg)
    cfg.val_evaluator = dict(
        type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'], metrics=[COCO, COCO]
    )
    metrics = build_runner(cfg).val()
    assert {'a/coco/bbox_mAP', 'b/coco/bbox_mAP'} <= metrics.keys()


def test_each_metric_gets_the_file_of_its_dataset(tmp_path: Path) -> None:
    cfg = config(tmp_path, 'ConcatDataset')
    cfg.val_evaluator = dict(
        type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'], metrics=[COCO, COCO]
    )
    fit_to_data(cfg)
    require_evaluable(cfg, 'val')
    files = [Path(metric.ann_file).name for metric in cfg.val_evaluator.metrics]
    assert files == ['val.json', 'more.json']
    cfg.val_evaluator.dataset_prefixes = ['a']
    with pytest.raises(ValueError, match=r'2 metrics and 1 dataset_prefixes for the 2 datasets'):
        fit_to_data(cfg)


def test_evaluator_with_one_metric_gets_its_file(tmp_path: Path) -> None:
    cfg = custom_config(write_data(tmp_path, ('pore',)))
    cfg.val_evaluator = dict(type='Evaluator', metrics=[COCO])
    cfg.test_evaluator = dict(metrics=COCO)
    fit_to_data(cfg)
    path = f'{tmp_path}/annotations/val.json'
    assert cfg.val_evaluator.metrics[0].ann_file == cfg.test_evaluator.metrics.ann_file == path


def test_joined_file_needs_ids_that_differ(tmp_path: Path) -> None:
    cfg = config(tmp_path, 'ConcatDataset')
    cfg.val_evaluator.ann_file = join(tmp_path)
    assert 'several have an image with id 0' in refusal(copy.deepcopy(cfg))
    shift_ids(tmp_path / 'annotations' / 'more.json', 10)
    assert 'joined.json has no image with id 10' in refusal(copy.deepcopy(cfg))
    join(tmp_path)
    fit_to_data(cfg)
    require_evaluable(cfg, 'val')


def test_metric_takes_the_objects_that_come_with_joined_images(tmp_path: Path) -> None:
    cfg = config(tmp_path, 'ConcatDataset')
    for dataset in cfg.val_dataloader.dataset.datasets:
        dataset.pipeline[-1].meta_keys = ('img_id', 'ori_shape', 'scale_factor', 'instances')
    assert 'several have an image with id 0' in refusal(copy.deepcopy(cfg))
    shift_ids(tmp_path / 'annotations' / 'more.json', 10)
    runner = build_runner(cfg)
    runner.model.forward = perfect
    assert runner.val()['coco/bbox_mAP'] == pytest.approx(1)
    assert len(runner.val_evaluator.metrics[0].img_ids) == 5
    del cfg.val_dataloader.dataset.datasets[1].pipeline[-1].meta_keys
    assert 'no ann_file for all of them' in refusal(copy.deepcopy(cfg))
    cfg.val_evaluator = dict(type='EvaluationReport', folder=str(tmp_path))
    assert 'no ann_file for all of them' in refusal(cfg)


def test_metrics_without_files_take_any_data(tmp_path: Path) -> None:
    """They get the objects with the images."""
    cfg = config(tmp_path, 'ConcatDataset')
    cfg.val_evaluator = dict(type='VOCMetric')
    fit_to_data(cfg)
    require_evaluable(cfg, 'val')
    assert cfg.val_evaluator == dict(type='VOCMetric')
