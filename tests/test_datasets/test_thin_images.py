"""Images that resizing would round to nothing: when that is, and who says so."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_samples import make_coco, write_image
from helpers import ROOT
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet_salience.apis.image_pipeline import ImagePipeline
from mmdet_salience.datasets.checks.annotation_source import find_annotation_source
from mmdet_salience.datasets.checks.annotation_table import build_annotation_table
from mmdet_salience.datasets.checks.dataset_check import check_annotations
from mmdet_salience.datasets.checks.dataset_repair import repair_annotations
from mmdet_salience.datasets.fault_record import FaultRecord
from mmdet_salience.datasets.image_content import ImageError
from mmdet_salience.datasets.thin_images import is_thin, largest_ratio
from mmdet_salience.datasets.transforms import FaultPolicy, LoadCheckedImage

CUSTOM = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_4xb2-10000i_custom.py'
KEEP = dict(keep_ratio=True)


@pytest.fixture(autouse=True)
def _scope() -> None:
    """Find MMDetection's transforms by their names."""
    init_default_scope('mmdet')


@pytest.mark.parametrize(
    'step, ratio',
    [
        (dict(type='Resize', scale=(100, 60), **KEEP), 200),
        (dict(type='Resize', scale=(60, 100), **KEEP), 200),
        (dict(type='Resize', scale=80, **KEEP), 160),
        (dict(type='Resize', scale=(100, 60)), math.inf),
        (dict(type='Resize', scale_factor=0.5, **KEEP), math.inf),
        (dict(type='RandomChoiceResize', scales=[(90, 40), (70, 60)], **KEEP), 140),
        (dict(type='RandomChoiceResize', scales=[64, 32], **KEEP), 64),
        (dict(type='RandomResize', scale=(100, 60), ratio_range=(0.1, 2), **KEEP), 20),
        (dict(type='RandomResize', scale=[(90, 40), (70, 60)], **KEEP), 140),
        (dict(type='RandomResize', scale=((90, 40), (70, 60)), **KEEP), 140),
        (dict(type='RandomFlip', prob=0.5), math.inf),
    ],
)
def test_ratio_of_a_step(step: dict[str, Any], ratio: float) -> None:
    """Twice the longest side, for the config and for what is built of it, also within a choice."""
    choice = dict(type='RandomChoice', transforms=[[dict(type='RandomFlip', prob=0.0)], [step]])
    for config in (step, choice):
        assert largest_ratio([config]) == pytest.approx(ratio)
        assert largest_ratio(Compose([TRANSFORMS.build(config)])) == pytest.approx(ratio)


@pytest.mark.parametrize('long_side', [7, 32, 1333])
def test_resizing_fails_from_this_ratio_on(long_side: int) -> None:
    step = dict(type='Resize', scale=(long_side, long_side), **KEEP)
    resize, ratio = TRANSFORMS.build(step), largest_ratio([step])
    for width, height in ((int(ratio) - 1, 1), (1, int(ratio) - 1), (4 * int(ratio) - 3, 4)):
        assert not is_thin(width, height, ratio)
        assert 1 in resize(dict(img=np.zeros((height, width, 3), np.uint8)))['img'].shape[:2]
    for width, height in ((int(ratio) + 2, 1), (3, 4 * int(ratio))):
        assert is_thin(width, height, ratio)
        with pytest.raises(cv2.error):
            resize(dict(img=np.zeros((height, width, 3), np.uint8)))


def test_check_and_repair_name_thin_images(tmp_path: Path) -> None:
    """20,000 x 6 at the usual 1333 pixels; 20,000 x 8 is thick enough."""
    cfg = Config.fromfile(CUSTOM)
    source = find_annotation_source(cfg.train_dataloader.dataset, 'train')
    assert source is not None and source.max_ratio == 2 * 1333
    content = make_coco(3)
    for image, height in zip(content['images'], (6, 8, 48), strict=True):
        image.update(width=20000 if height < 48 else 64, height=height)
    for annotation in content['annotations']:
        annotation.update(bbox=[4, 1, 20, 5], area=100)
    table = build_annotation_table(content, 'a.json')
    (finding,) = check_annotations(table, None, max_ratio=source.max_ratio)
    assert (finding.kind, finding.is_error) == ('thin_image', True)
    assert finding.examples == ('1.png (id 1): 20000x6',)
    assert check_annotations(table, None) == ()
    result = repair_annotations(content, max_ratio=source.max_ratio)
    assert result.actions == {'drop_thin_image': 1, 'drop_with_image': 2}
    assert [image['id'] for image in result.content['images']] == [2, 3]


def test_loader_skips_or_refuses_thin_images(tmp_path: Path) -> None:
    path = tmp_path / 'thin.png'
    write_image(path, (900, 3))
    info = dict(img_path=str(path), width=900, height=3)
    assert LoadCheckedImage(max_ratio=301).transform(dict(info))['img'].shape == (3, 900, 3)
    with pytest.raises(ImageError, match=r'thin\.png: 900x3 is too thin: resizing would round'):
        LoadCheckedImage(max_ratio=300).transform(dict(info))
    record = FaultRecord(str(tmp_path / 'list.jsonl'))
    drawn = LoadCheckedImage(max_ratio=300, policy=FaultPolicy(record, 'train', 9, 1))
    assert drawn.transform(dict(info)) is None
    blank = LoadCheckedImage(max_ratio=300, policy=FaultPolicy(record, 'val', 9, 1, blank=True))
    height, width = blank.transform(dict(info))['img'].shape[:2]
    assert width == 900 and not is_thin(width, height, 300)
    assert [fault.split for fault in record.read()] == ['train', 'val']


def test_inference_names_thin_images(tmp_path: Path) -> None:
    write_image(tmp_path / 'thin.png', (20000, 6))
    pipeline = ImagePipeline(Config.fromfile(CUSTOM))
    with pytest.raises(ImageError, match=r'thin\.png: 20000x6 is too thin'):
        pipeline(tmp_path / 'thin.png')
