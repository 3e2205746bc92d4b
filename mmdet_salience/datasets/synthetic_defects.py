"""Synthetic surface defects: brushed metal with scratches, pits and stains, in COCO format.

A detection data set of any size from a seed, for demos, smoke tests and quick comparisons. The
longest side of a defect is log-uniform between a few pixels and most of the image, so detectors
that favour one scale show it. Every image draws from its own generator, seeded by (seed, split,
index): the first images of a large set are those of a smaller set.

Shapes: S image side in pixels, h and w the sides of a patch that holds one defect and a margin.
Images are BGR. Boxes are ``(x, y, width, height)`` in pixels.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .defect_rendering import RENDERERS, crop_defect, mask_to_box, place_defect, render_metal

CLASSES = ('scratch', 'pit', 'stain')
PALETTE = [(230, 80, 60), (60, 120, 230), (240, 180, 40)]
SPLITS = ('train', 'val')
GENERATOR = 'mmdet_salience synthetic surface defects'
GENERATOR_VERSION = 1  # raise it when the same settings give other pixels


@dataclass(frozen=True)
class DefectSettings:
    """What determines the data set, to the pixel; stored in ``info`` of its annotation files.

    Args:
        num_train: Images of the training split.
        num_val: Images of the validation split.
        image_size: Side S of the square images in pixels, at least 32.
        seed: Seed of the whole set, not negative.
        max_defects: Most defects in an image; the number is uniform in 1..max_defects.
        num_empty_fraction: Share of images without a defect, 0 to 1.
        min_defect_px: Smallest longest side of a defect in pixels, at least 3.
        max_defect_ratio: Largest longest side, as a share of S, at most 0.8.
        max_box_iou: Most IoU between a box and those placed before it.
        contrast: Factor on the strength of all defects.

    Raises:
        ValueError: If a value is out of its range.
    """

    num_train: int = 600
    num_val: int = 100
    image_size: int = 128
    seed: int = 0
    max_defects: int = 4
    num_empty_fraction: float = 0.0
    min_defect_px: float = 8.0
    max_defect_ratio: float = 0.8
    max_box_iou: float = 0.2
    contrast: float = 1.0

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: If a value is out of its range.
        """
        largest = self.max_defect_ratio * self.image_size
        checks = {
            'num_train': (self.num_train >= 1, 'at least 1'),
            'num_val': (self.num_val >= 1, 'at least 1'),
            'image_size': (self.image_size >= 32, 'at least 32'),
            'seed': (self.seed >= 0, 'not negative'),
            'max_defects': (self.max_defects >= 1, 'at least 1'),
            'num_empty_fraction': (0 <= self.num_empty_fraction <= 1, 'between 0 and 1'),
            'max_defect_ratio': (0 < self.max_defect_ratio <= 0.8, 'above 0 and at most 0.8'),
            'min_defect_px': (
                3 <= self.min_defect_px <= largest,
                f'between 3 and max_defect_ratio * image_size = {largest:g}',
            ),
            'max_box_iou': (0 <= self.max_box_iou <= 1, 'between 0 and 1'),
            'contrast': (self.contrast > 0, 'above 0'),
        }
        for name, (valid, wanted) in checks.items():
            if not valid:
                raise ValueError(f'{name} must be {wanted}, got {getattr(self, name)!r}')


class SyntheticDefects(NamedTuple):
    """Where the data set lies and what is in it; the dicts have the keys ``train`` and ``val``."""

    root: Path
    ann_files: dict[str, Path]
    num_images: dict[str, int]
    num_boxes: dict[str, int]
    reused: bool


class Sample(NamedTuple):
    """An image uint8 (S, S, 3), its class mask uint8 (S, S), labels and masks, one per defect."""

    image: np.ndarray
    class_mask: np.ndarray
    labels: list[int]
    masks: list[np.ndarray]


def render_defect_image(settings: DefectSettings, split: str, index: int) -> Sample:
    """Draw one image of the set.

    Large defects are placed first. One that finds no free place is left out, so an image may hold
    fewer than it drew, yet never none unless it is meant to be empty.

    Args:
        settings: Settings of the set.
        split: ``train`` or ``val``.
        index: Number of the image in its split, from 0.

    Returns:
        The image with its labels and masks.

    Raises:
        ValueError: If the split is neither ``train`` nor ``val``.
    """
    if split not in SPLITS:
        raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    size = settings.image_size
    is_empty = rng.random() < settings.num_empty_fraction
    image = render_metal(rng, size)
    class_mask = np.zeros((size, size), np.uint8)
    labels: list[int] = []
    masks: list[np.ndarray] = []
    boxes: list[tuple[int, ...]] = []
    smallest, largest = np.log(settings.min_defect_px), np.log(settings.max_defect_ratio * size)
    number = 0 if is_empty else int(rng.integers(1, settings.max_defects + 1))
    for length in np.sort(np.exp(rng.uniform(smallest, largest, number)))[::-1]:
        label = int(rng.integers(len(CLASSES)))
        defect = crop_defect(RENDERERS[label](rng, float(length)))
        taken = cv2.dilate(class_mask, np.ones((5, 5), np.uint8)) > 0
        window = place_defect(rng, defect, taken, boxes, settings.max_box_iou)
        if window is None:
            continue
        mask = np.zeros((size, size), bool)
        mask[window] = defect.mask
        image[window] += settings.contrast * defect.delta
        class_mask[mask] = label + 1
        labels.append(label)
        masks.append(mask)
        boxes.append(mask_to_box(mask))
    return Sample(np.clip(np.round(image), 0, 255).astype(np.uint8), class_mask, labels, masks)


def _write_atomic(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _file_paths(root: Path, split: str, file_name: str) -> tuple[Path, Path]:
    """Paths of an image and of its class mask."""
    return root / split / file_name, root / 'masks' / split / file_name


def _write_split(root: Path, settings: DefectSettings, split: str, number: int) -> dict[str, Any]:
    """Draw and write the images and masks of a split.

    Args:
        root: Folder of the data set.
        settings: Settings of the set.
        split: ``train`` or ``val``.
        number: Images to draw.

    Returns:
        The COCO annotations, not written yet.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    side = settings.image_size
    for index in range(number):
        sample = render_defect_image(settings, split, index)
        name = f'{index:06d}.png'
        for path, pixels in zip(_file_paths(root, split, name), sample[:2], strict=True):
            _write_atomic(path, cv2.imencode('.png', pixels)[1].tobytes())
        images.append({'id': index + 1, 'file_name': name, 'width': side, 'height': side})
        for label, mask in zip(sample.labels, sample.masks, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': index + 1,
                    'category_id': label + 1,
                    'bbox': mask_to_box(mask),
                    'area': int(mask.sum()),
                    'iscrowd': 0,
                    'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
                }
            )
    categories = [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)]
    info = {
        'description': GENERATOR,
        'version': GENERATOR_VERSION,
        'seed': settings.seed,
        'parameters': asdict(settings),
    }
    return {'info': info, 'images': images, 'annotations': annotations, 'categories': categories}


def _read_own(path: Path) -> dict[str, Any] | None:
    """Read an annotation file of this generator, None if there is none.

    Raises:
        ValueError: If the file is not one that this generator wrote.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        own = content['info']['description'] == GENERATOR
    except (ValueError, KeyError, TypeError):
        own = False
    if not own:
        raise ValueError(
            f'{path} was not written by the synthetic defects generator and would be '
            'overwritten: choose another output folder or move that file away'
        )
    return content


def _is_complete(root: Path, settings: DefectSettings, found: dict[str, Any]) -> bool:
    """Whether both annotation files have these settings and all their files are there."""
    for split in SPLITS:
        info = (found[split] or {}).get('info', {})
        if (info.get('parameters'), info.get('version')) != (asdict(settings), GENERATOR_VERSION):
            return False
        names = [image['file_name'] for image in found[split]['images']]
        if not all(path.is_file() for name in names for path in _file_paths(root, split, name)):
            return False
    return True


def generate_synthetic_defects(
    out_dir: str | Path,
    num_train: int = 600,
    num_val: int = 100,
    image_size: int = 128,
    seed: int = 0,
    max_defects: int = 4,
    **settings: float,
) -> SyntheticDefects:
    """Write the data set, unless it is there already with the same settings.

    Images go to ``train/`` and ``val/``, class masks (0 background, else label + 1) to ``masks/``
    and COCO annotations to ``annotations/{train,val}.json``, which are written last. A set of
    other settings in the folder is replaced; files that are not part of it stay.

    Args:
        out_dir: Folder of the data set, made if needed.
        num_train: Images of the training split.
        num_val: Images of the validation split.
        image_size: Side of the square images in pixels.
        seed: Seed of the whole set.
        max_defects: Most defects in an image.
        **settings: Further fields of :class:`DefectSettings`, such as ``num_empty_fraction``.

    Returns:
        Paths and counts; ``reused`` tells that nothing was written.

    Raises:
        TypeError: If a further setting has an unknown name.
        ValueError: If a setting is out of its range, or the annotation files of another data set
            are in the way.
    """
    chosen = DefectSettings(num_train, num_val, image_size, seed, max_defects, **settings)
    root = Path(out_dir)
    ann_files = {split: root / 'annotations' / f'{split}.json' for split in SPLITS}
    content = {split: _read_own(path) for split, path in ann_files.items()}
    reused = _is_complete(root, chosen, content)
    if not reused:
        for split, path in ann_files.items():
            path.unlink(missing_ok=True)
            for image in (content[split] or {'images': []})['images']:
                for old in _file_paths(root, split, image['file_name']):
                    old.unlink(missing_ok=True)
        content = {
            split: _write_split(root, chosen, split, number)
            for split, number in zip(SPLITS, (num_train, num_val), strict=True)
        }
        for split, path in ann_files.items():
            _write_atomic(path, json.dumps(content[split]).encode())
    num_images, num_boxes = (
        {split: len((content[split] or {})[key]) for split in SPLITS}
        for key in ('images', 'annotations')
    )
    return SyntheticDefects(root, ann_files, num_images, num_boxes, reused)
