"""What all converters to COCO share: ids, sizes, boxes, counts and files.

Boxes are ``(x, y, width, height)`` in pixels, corners ``(x1, y1, x2, y2)`` with x2 and y2 one past
the last pixel. Ids of images, categories and annotations count from 1 without gaps.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..image_header import explain_unreadable, read_header
from .data_problems import DataError


class ImageSize(NamedTuple):
    """Width and height of an image in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        """Width and height as in ``64x48``."""
        return f'{self.width}x{self.height}'


class CocoObject(NamedTuple):
    """An object of an image.

    ``bbox`` is in pixels, ``area`` in square pixels. ``polygons`` holds ``[x1, y1, x2, y2, ...]``
    of each part; None leaves the object without a segmentation. ``clipped`` tells that the source
    had a box that left the image.
    """

    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    polygons: list[list[float]] | None = None
    is_crowd: bool = False
    clipped: bool = False


class CocoSplit:
    """COCO content of a split, image by image.

    Args:
        class_names: Names of the classes; their ids are 1, 2, 3, ...

    ``coco`` is the content of the annotation file. ``counts`` holds further columns of the table
    of counts by their titles, ``clipped`` among them.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        categories = [{'id': i, 'name': name} for i, name in enumerate(class_names, 1)]
        self.coco: dict[str, list[dict[str, Any]]] = {
            'images': [],
            'annotations': [],
            'categories': categories,
        }
        self.counts: Counter[str] = Counter({'clipped': 0})

    @property
    def num_clipped(self) -> int:
        """Number of objects whose boxes were clipped."""
        return self.counts['clipped']

    def add_image(self, file_name: str, size: ImageSize, objects: Iterable[CocoObject]) -> None:
        """Append an image and its objects.

        Args:
            file_name: Path relative to the data root, with ``/`` between folders.
            size: Size of the image.
            objects: Its objects.
        """
        image_id = len(self.coco['images']) + 1
        self.coco['images'].append({'id': image_id, 'file_name': file_name, **size._asdict()})
        annotations = self.coco['annotations']
        for item in objects:
            annotation = {
                'id': len(annotations) + 1,
                'image_id': image_id,
                'category_id': item.category_id,
                'bbox': list(item.bbox),
                'area': item.area,
                'iscrowd': int(item.is_crowd),
            }
            if item.polygons is not None:
                annotation['segmentation'] = item.polygons
            annotations.append(annotation)
            self.counts['clipped'] += item.clipped

    def num_empty(self) -> int:
        """Number of images without objects."""
        return len(self.coco['images']) - len({a['image_id'] for a in self.coco['annotations']})


def read_image_size(path: Path) -> ImageSize:
    """Read an image's size from its header, as OpenCV would load it.

    Args:
        path: The image.

    Returns:
        Its size.

    Raises:
        DataError: If the file is not an image.
    """
    header = read_header(str(path))
    if header is None:
        raise DataError('unreadable images', explain_unreadable(str(path)))
    return ImageSize(*header.size)


def tidy(value: float) -> float:
    """Round to hundredths, which hides the noise of decimal fractions.

    Args:
        value: A coordinate in pixels, or an area in square pixels.

    Returns:
        The rounded value, an integer if it is whole.
    """
    rounded = round(value, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def box_object(
    category_id: int, corners: Sequence[float], size: ImageSize, tolerance: float
) -> CocoObject:
    """Make an object of a box, clipped to its image.

    Args:
        category_id: Id of its class.
        corners: ``(x1, y1, x2, y2)`` in pixels.
        size: Size of the image.
        tolerance: A box that leaves the image by at most this many pixels is clipped.

    Returns:
        The object; coordinates are rounded to hundredths of a pixel.

    Raises:
        DataError: If the box has no area or leaves the image by more.
    """
    x1, y1, x2, y2 = (tidy(value) for value in corners)
    text = f'box {x1:g} {y1:g} {x2:g} {y2:g}'
    if x2 <= x1 or y2 <= y1:
        raise DataError('boxes without area', f'{text} has no area')
    if max(-x1, -y1, x2 - size.width, y2 - size.height) > tolerance:
        raise DataError(
            'boxes outside the image',
            f'{text} leaves the {size} image by more than {tolerance:g} pixels',
        )
    inside = (max(x1, 0), max(y1, 0), min(x2, size.width), min(y2, size.height))
    width, height = tidy(inside[2] - inside[0]), tidy(inside[3] - inside[1])
    if width <= 0 or height <= 0:
        raise DataError('boxes without area', f'{text} has no area inside the image')
    return CocoObject(
        category_id,
        (inside[0], inside[1], width, height),
        tidy(width * height),
        clipped=inside != (x1, y1, x2, y2),
    )


def shared_images(names: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Find images that lie in more than one split.

    Args:
        names: Images of each split.

    Returns:
        The splits of each such image, in the order of ``names``.
    """
    splits: dict[str, list[str]] = {}
    for split, images in names.items():
        for image in dict.fromkeys(images):
            splits.setdefault(image, []).append(split)
    return {image: where for image, where in splits.items() if len(where) > 1}


def count_table(splits: Mapping[str, CocoSplit], with_empty: bool = True) -> str:
    """Count images and objects, with a row for each split.

    Args:
        splits: The splits by their names, at least one; all have the same classes.
        with_empty: Whether to count the images without objects.

    Returns:
        A table of images, images without objects, objects of each class, all objects, those of
        them that are crowds if there are any, clipped boxes and the splits' other counts.
    """
    categories = next(iter(splits.values())).coco['categories']
    others = list(dict.fromkeys(title for split in splits.values() for title in split.counts))
    crowds = {
        name: sum(a['iscrowd'] for a in split.coco['annotations']) for name, split in splits.items()
    }
    empty, crowd = ['empty'] * with_empty, ['crowd'] * any(crowds.values())
    names = [category['name'] for category in categories]
    rows = [['split', 'images', *empty, *names, 'boxes', *crowd, *others]]
    for name, split in splits.items():
        counts = Counter(a['category_id'] for a in split.coco['annotations'])
        numbers = [len(split.coco['images']), *[split.num_empty()] * with_empty]
        numbers += [counts[category['id']] for category in categories]
        numbers += [sum(counts.values()), *[crowds[name]] * len(crowd)]
        rows.append([name, *map(str, numbers + [split.counts[title] for title in others])])
    widths = [max(6, *map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(f'{cell:>{width}}' for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def write_files(texts: Mapping[Path, str | bytes]) -> None:
    """Write files, all or none.

    All are written under temporary names before the first is renamed, so a full disk leaves older
    files as they are.

    Args:
        texts: Content of each file; folders are made if needed.

    Raises:
        OSError: If a file cannot be written.
    """
    temporary = {path: path.with_name(f'.{path.name}.{os.getpid()}.tmp') for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, bytes):
                temporary[path].write_bytes(text)
            else:
                temporary[path].write_text(text, encoding='utf-8')
        for path in texts:
            os.replace(temporary[path], path)
    finally:
        for path in temporary.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)


def write_splits(splits: Mapping[str, CocoSplit], out_dir: Path) -> list[Path]:
    """Write ``<split>.json`` for every split, all or none.

    Args:
        splits: The splits by their names.
        out_dir: Folder of the files, made if needed.

    Returns:
        The files.

    Raises:
        OSError: If a file cannot be written.
    """
    texts = {out_dir / f'{name}.json': json.dumps(split.coco) for name, split in splits.items()}
    write_files(texts)
    return list(texts)
