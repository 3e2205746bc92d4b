"""The synthetic surface defects: what is drawn, what is written and when it is written again."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmdet_salience.datasets import (
    CLASSES,
    PALETTE,
    DefectSettings,
    generate_synthetic_defects,
    render_defect_image,
)

CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/synthetic_defects.py'


def _snapshot(root: Path) -> dict[str, bytes]:
    """Content of every file below ``root`` by its relative path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 40 training and 10 validation images, which tests only read."""
    root = tmp_path_factory.mktemp('defects')
    generate_synthetic_defects(root, num_train=40, num_val=10, image_size=96, seed=3)
    return root


def test_layout_and_counts(tmp_path: Path) -> None:
    """The files lie where they should, and the counts are those of the annotation files."""
    result = generate_synthetic_defects(tmp_path, num_train=5, num_val=2, image_size=48)
    assert not result.reused
    assert result.num_images == {'train': 5, 'val': 2}
    names = [f'{i:06d}.png' for i in range(5)]
    assert sorted(p.name for p in (tmp_path / 'train').iterdir()) == names
    assert sorted(p.name for p in (tmp_path / 'masks' / 'val').iterdir()) == names[:2]
    assert cv2.imread(str(tmp_path / 'train' / names[0])).shape == (48, 48, 3)
    for split, path in result.ann_files.items():
        content = json.loads(path.read_text())
        assert len(content['annotations']) == result.num_boxes[split] >= result.num_images[split]
        assert content['info']['seed'] == 0
        assert content['info']['parameters']['image_size'] == 48


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """Two sets of one seed are equal to the byte; another seed or split gives other images."""
    for name in 'ab':
        generate_synthetic_defects(tmp_path / name, num_train=3, num_val=3, image_size=40, seed=7)
    first = _snapshot(tmp_path / 'a')
    assert first == _snapshot(tmp_path / 'b')
    assert first['train/000000.png'] != first['val/000000.png']
    generate_synthetic_defects(tmp_path / 'c', num_train=3, num_val=3, image_size=40, seed=8)
    assert _snapshot(tmp_path / 'c')['train/000000.png'] != first['train/000000.png']


def test_prefix_of_larger_set(tmp_path: Path) -> None:
    """The images of a small set are the first ones of a large set."""
    generate_synthetic_defects(tmp_path / 'small', num_train=3, num_val=1, image_size=40)
    generate_synthetic_defects(tmp_path / 'large', num_train=6, num_val=2, image_size=40)
    large = _snapshot(tmp_path / 'large')
    for name, content in _snapshot(tmp_path / 'small').items():
        if name.endswith('.png'):
            assert large[name] == content, name


def test_boxes_are_tight(written: Path) -> None:
    """Boxes and areas are those of the encoded masks, which make up the class mask."""
    coco = COCO(str(written / 'annotations' / 'train.json'))
    assert sorted(coco.getImgIds()) == list(range(1, 41))
    assert tuple(c['name'] for c in coco.loadCats(coco.getCatIds())) == CLASSES
    for image in coco.loadImgs(coco.getImgIds()):
        expected = np.zeros((96, 96), np.uint8)
        for ann in coco.loadAnns(coco.getAnnIds(imgIds=image['id'])):
            assert ann['bbox'] == coco_mask.toBbox(ann['segmentation']).tolist()
            assert ann['area'] == coco_mask.area(ann['segmentation'])
            mask = coco.annToMask(ann) > 0
            assert not expected[mask].any(), 'masks of two defects overlap'
            expected[mask] = ann['category_id']
        path = written / 'masks' / 'train' / image['file_name']
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)


def test_boxes_overlap_little(written: Path) -> None:
    """No two boxes of an image exceed the IoU that is allowed."""
    coco = COCO(str(written / 'annotations' / 'train.json'))
    for image_id in coco.getImgIds():
        boxes = np.array([a['bbox'] for a in coco.imgToAnns[image_id]], float)
        iou = coco_mask.iou(boxes, boxes, [0] * len(boxes))
        assert np.max(iou - np.eye(len(boxes))) <= 0.2


def test_sizes_are_log_uniform() -> None:
    """The quartiles of the longest side lie near 6 px times (102.4 / 6) to the 1/4, 1/2, 3/4."""
    settings = DefectSettings(max_defects=2, min_defect_px=6)
    samples = [render_defect_image(settings, 'train', i) for i in range(250)]
    sides = np.array(
        [
            max(np.ptp(axis) + 1 for axis in np.nonzero(mask))
            for sample in samples
            for mask in sample.masks
        ]
    )
    quartiles = np.log([12.2, 24.8, 50.4])
    np.testing.assert_allclose(np.log(np.percentile(sides, [25, 50, 75])), quartiles, atol=0.25)
    assert 5 <= sides.min() <= 8
    assert 90 <= sides.max() <= 105
    labels = np.array([label for sample in samples for label in sample.labels])
    assert np.all(np.bincount(labels, minlength=3) / len(labels) > 0.25)


def test_classes_differ_in_looks() -> None:
    """Pits are darker than the image, stains shift the colour, scratches fill little of a box."""
    found: dict[int, list[tuple[float, float, float]]] = {0: [], 1: [], 2: []}
    settings = DefectSettings(max_defects=1, min_defect_px=20)
    for index in range(90):
        image, _, labels, masks = render_defect_image(settings, 'train', index)
        for label, mask in zip(labels, masks, strict=True):
            rows, columns = np.nonzero(mask)
            shift = image[mask].mean(0) - image[~mask].mean(0)
            fill = mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1))
            found[label].append((shift.mean(), np.ptp(shift), fill))
    scratch, pit, stain = (np.median(found[label], axis=0) for label in range(3))
    assert pit[0] < -15
    assert stain[1] > 15 > max(scratch[1], pit[1])
    assert scratch[2] < 0.3 < min(pit[2], stain[2])


@pytest.mark.parametrize('image_size', [32, 45, 320])
def test_any_image_size(image_size: int) -> None:
    """Images of any side keep their defects inside and hold at least one each."""
    settings = DefectSettings(image_size=image_size)
    for index in range(10):
        sample = render_defect_image(settings, 'val', index)
        assert sample.image.shape == (image_size, image_size, 3)
        assert sample.image.dtype == np.uint8
        assert 1 <= len(sample.labels) == len(sample.masks) <= 4
        assert all(mask.sum() >= 3 for mask in sample.masks)


def test_empty_images() -> None:
    """About the wanted share of images is empty."""
    settings = DefectSettings(image_size=32, num_empty_fraction=0.3)
    empty = [not render_defect_image(settings, 'train', i).labels for i in range(200)]
    assert 0.2 < np.mean(empty) < 0.4
    settings = DefectSettings(image_size=32, num_empty_fraction=1)
    assert not render_defect_image(settings, 'train', 0).class_mask.any()


def test_reuse(tmp_path: Path) -> None:
    """The same settings write nothing; a file that is missing brings the set back."""
    first = generate_synthetic_defects(tmp_path, num_train=3, num_val=2, image_size=32)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    again = generate_synthetic_defects(tmp_path, num_train=3, num_val=2, image_size=32)
    assert again == first._replace(reused=True)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    before = _snapshot(tmp_path)
    (tmp_path / 'masks' / 'train' / '000001.png').unlink()
    assert not generate_synthetic_defects(tmp_path, num_train=3, num_val=2, image_size=32).reused
    assert _snapshot(tmp_path) == before


def test_other_settings_replace_only_own_files(tmp_path: Path) -> None:
    """A smaller set replaces a larger one entirely and spares the files of others."""
    generate_synthetic_defects(tmp_path / 'a', num_train=5, num_val=2, image_size=32)
    foreign = [
        tmp_path / 'a' / 'notes.txt',
        tmp_path / 'a' / 'train' / 'mine.png',
        tmp_path / 'a' / 'annotations' / 'mine.json',
    ]
    for path in foreign:
        path.write_text('keep')
    assert not generate_synthetic_defects(
        tmp_path / 'a', num_train=2, num_val=2, image_size=32, contrast=1.5
    ).reused
    generate_synthetic_defects(tmp_path / 'b', num_train=2, num_val=2, image_size=32, contrast=1.5)
    assert all(path.read_text() == 'keep' for path in foreign)
    for path in foreign:
        path.unlink()
    assert _snapshot(tmp_path / 'a') == _snapshot(tmp_path / 'b')


@pytest.mark.parametrize('content', ['{"info": {"description": "COCO 2017"}}', '[]', 'no json'])
def test_spares_other_annotations(tmp_path: Path, content: str) -> None:
    """Annotation files of another data set are an error, not overwritten."""
    path = tmp_path / 'annotations' / 'val.json'
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ValueError, match=r'val\.json'):
        generate_synthetic_defects(tmp_path, num_train=1, num_val=1, image_size=32)
    assert list(_snapshot(tmp_path)) == ['annotations/val.json']
    assert path.read_text() == content


@pytest.mark.parametrize(
    'name, value',
    [
        ('num_train', 0),
        ('num_val', -1),
        ('image_size', 31),
        ('seed', -1),
        ('max_defects', 0),
        ('num_empty_fraction', 1.5),
        ('min_defect_px', 2),
        ('min_defect_px', 110),
        ('max_defect_ratio', 0.9),
        ('max_box_iou', -0.1),
        ('contrast', 0),
    ],
)
def test_settings_out_of_range(tmp_path: Path, name: str, value: float) -> None:
    """Every setting out of its range is named, and nothing is written."""
    with pytest.raises(ValueError, match=name):
        generate_synthetic_defects(tmp_path / 'out', **{name: value})
    assert not (tmp_path / 'out').exists()


def test_unknown_split() -> None:
    """Only the two splits can be drawn."""
    with pytest.raises(ValueError, match='test'):
        render_defect_image(DefectSettings(), 'test', 0)


@pytest.mark.parametrize(
    'loader, split, number', [('train_dataloader', 'train', 40), ('val_dataloader', 'val', 10)]
)
def test_config_builds(written: Path, loader: str, split: str, number: int) -> None:
    """The data set config reads the set through mmdet, and its classes are the generator's."""
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(str(CONFIG))
    assert tuple(cfg.metainfo.classes) == CLASSES
    assert [tuple(colour) for colour in cfg.metainfo.palette] == PALETTE
    cfg[loader].dataset.data_root = str(written)
    dataset = DATASETS.build(cfg[loader].dataset)
    assert len(dataset) == number
    content = json.loads((written / 'annotations' / f'{split}.json').read_text())
    total = 0
    for item in dataset:
        sample = item['data_samples']
        assert item['inputs'].shape == (3, 96, 96)
        if split == 'val':
            assert sample.scale_factor == (1, 1)
        total += len(sample.gt_instances)
    assert total == len(content['annotations'])
