"""Faulty, unknown and crowd boxes: named before a training, and what a training makes of them."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_samples import make_coco, write_coco
from helpers import ROOT, build, make_batch, tiny_model_cfg
from mmdet.datasets import CocoDataset
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.structures import InstanceData

CUSTOM = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_4xb2-10000i_custom.py'
NAN, INFINITE = float('nan'), float('inf')
LOADING = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]

# A change of annotation 3 (a crack of image 2), the kind of its fault, and what is left of it in
# a training that allows this kind: nothing, a box, or an error.
FAULTS = {
    'zero width': (dict(bbox=[4, 6, 0, 10]), 'degenerate_box', None),
    'inverted': (dict(bbox=[24, 16, -20, -10]), 'degenerate_box', None),
    'under a pixel': (dict(bbox=[4, 6, 20, 0.5]), 'degenerate_box', None),
    'no area': (dict(area=0), 'degenerate_box', None),
    'nan place': (dict(bbox=[NAN, 6, 20, 10]), 'invalid_box', None),
    'nan width': (dict(bbox=[4, 6, NAN, 10]), 'invalid_box', None),
    'infinite': (dict(bbox=[4, 6, INFINITE, 10]), 'invalid_box', [4, 6, INFINITE, 16]),
    'missing': (dict(bbox=None), 'invalid_box', TypeError),
    'three numbers': (dict(bbox=[4, 6, 20]), 'invalid_box', ValueError),
    'text': (dict(bbox=['4', 6, 20, 10]), 'invalid_box', TypeError),
    'wholly outside': (dict(bbox=[70, 6, 20, 10]), 'box_outside_image', None),
    'partly outside': (dict(bbox=[50, 6, 20, 10]), 'box_outside_image', [50, 6, 70, 16]),
    'unknown category': (dict(category_id=9), 'unknown_category', None),
    'unknown image': (dict(image_id=9), 'unknown_image', None),
}


def write_data(root: Path, change: dict[str, Any]) -> Path:
    """Write training and validation data of four images; annotation 3 is changed."""
    (root / 'annotations').mkdir()
    content = make_coco(folder='train/')
    content['annotations'][2].update(change)
    write_coco(root, content, 'annotations/train.json')
    write_coco(root, make_coco(start=11, folder='val/'), 'annotations/val.json')
    return root


def check_data(root: Path, *allowed: str) -> None:
    """Check the data as a training does before its first step."""
    cfg = Config.fromfile(CUSTOM)
    cfg.update(data_root=str(root), work_dir=str(root / 'work'), model=tiny_model_cfg())
    cfg.model.bbox_head.num_classes = None
    cfg.data_check.allow = list(allowed)
    RUNNERS.build(cfg).prepare_training()


def load(root: Path) -> list[DetDataSample]:
    """The samples of the training data."""
    dataset = CocoDataset(
        ann_file=str(root / 'annotations/train.json'),
        data_prefix=dict(img=str(root)),
        metainfo=dict(classes=('crack', 'pore')),
        pipeline=LOADING,
    )
    return [dataset[index]['data_samples'] for index in range(len(dataset))]


@pytest.fixture(autouse=True)
def _plain_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print configs as they come: laying them out takes most of the time of a runner."""
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: repr(cfg.to_dict())))


@pytest.mark.parametrize('name', ['inverted', 'nan width', 'wholly outside', 'unknown category'])
def test_fault_is_named_before_the_training(tmp_path: Path, name: str) -> None:
    change, kind, _ = FAULTS[name]
    write_data(tmp_path, change)
    with pytest.raises(ValueError, match=rf'{kind} \(1\)') as caught:
        check_data(tmp_path)
    assert 'annotation 3 of train/2.png (id 2): ' in str(caught.value)
    check_data(tmp_path, kind)


def test_unknown_image_is_named_before_the_training(tmp_path: Path) -> None:
    write_data(tmp_path, FAULTS['unknown image'][0])
    with pytest.raises(ValueError, match=r'annotation 3 of image id 9, which is not listed: crack'):
        check_data(tmp_path)


@pytest.mark.parametrize('name', FAULTS)
def test_what_a_training_makes_of_an_allowed_fault(tmp_path: Path, name: str) -> None:
    change, _, expected = FAULTS[name]
    write_data(tmp_path, change)
    if isinstance(expected, type):
        with pytest.raises(expected):
            load(tmp_path)
        return
    samples = load(tmp_path)
    assert [len(sample.gt_instances) for sample in samples] == [2, 1 + (expected is not None), 2, 2]
    if expected is not None:
        assert samples[1].gt_instances.bboxes.tensor[0].tolist() == expected


def test_crowds_are_set_aside_and_are_no_fault(tmp_path: Path) -> None:
    write_data(tmp_path, dict(iscrowd=1))
    check_data(tmp_path)
    sample = load(tmp_path)[1]
    assert sample.gt_instances.bboxes.tensor.tolist() == [[30, 20, 60, 45]]
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[4, 6, 24, 16]]


def test_crowds_have_no_part_in_the_losses() -> None:
    """Neither salience targets nor denoising nor matching use them."""
    model = build(tiny_model_cfg()).train()
    source = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 96, 96, generator=source) for _ in range(2)]
    batch, plain = make_batch(images, [[[5, 5, 40, 50]], []], [[0], []])
    crowded = copy.deepcopy(plain)
    for sample in crowded:
        sample.ignored_instances = InstanceData(
            bboxes=torch.tensor([[50.0, 50, 90, 90]]), labels=torch.tensor([1])
        )
    losses = []
    for samples in (plain, crowded):
        torch.manual_seed(0)  # the same denoising noise
        losses.append(model.loss(batch, samples))
    assert losses[0].keys() == losses[1].keys()
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value, rtol=0, atol=0, msg=key)


def test_objects_of_a_crowded_image_alone(tmp_path: Path) -> None:
    """An image that shows crowds only is one without objects, and trains."""
    write_data(tmp_path, dict(iscrowd=1))
    model = build(tiny_model_cfg(num_classes=2)).train()
    sample = load(tmp_path)[1]
    sample.gt_instances = sample.gt_instances[:0]
    sample.gt_instances.bboxes = sample.gt_instances.bboxes.tensor
    sample.set_metainfo(dict(batch_input_shape=(64, 64), pad_shape=(64, 64)))
    total, _ = model.parse_losses(model.loss(torch.zeros(1, 3, 64, 64), [sample]))
    assert np.isfinite(total.item())
