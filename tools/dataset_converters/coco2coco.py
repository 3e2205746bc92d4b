"""Write annotation files to train on from a COCO export of CVAT, Label Studio, Roboflow or others.

Such files name images by other paths, hold all splits in one, number from 0, lack ``area`` or
``iscrowd``, or tell of turned boxes only in their attributes. The images stay where they are.

Example:
    python tools/dataset_converters/coco2coco.py data/cvat_export --split-ratio 8:2
    python tools/dataset_converters/coco2coco.py data/label_studio --ann-file result.json
    python tools/dataset_converters/coco2coco.py data/set --ann-file 'labels/{split}.json'
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _data_package
sys.path.insert(0, str(Path(__file__).resolve().parent))  # what the converters share

import _data_package  # noqa: F401  # the data modules of the checkout's own package
from _coco_export import ExportedImage, ImageNames, collect_images, find_exports, read_export
from _conversion import (
    ImageRecord,
    Report,
    add_tolerance,
    convert_splits,
    finish,
    keep_sources,
    make_parser,
)
from _image_pairs import add_ratio, check_splits
from _split_lists import Sample, SplitChoice

from mmdet_salience.datasets.conversion.coco_writer import (
    ImageSize,
    box_object,
    read_image_size,
    tidy,
)
from mmdet_salience.datasets.conversion.data_problems import DataError

Corners = tuple[float, float, float, float]


class ObjectRules(NamedTuple):
    """How objects are read.

    ``images`` holds what the files say of each image, ``class_ids`` the id of each class. Boxes
    that leave the image by at most ``tolerance`` pixels are clipped.
    """

    images: Mapping[Path, ExportedImage]
    class_ids: Mapping[str, int]
    tolerance: float


def finite(value: Any, count: int) -> list[float]:
    """Numbers of a list of ``count`` finite ones, none if it is something else."""
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else []


def read_polygons(item: Mapping[str, Any]) -> list[list[float]]:
    """Polygons of an object, none where it has a mask or broken ones."""
    parts = item.get('segmentation')
    if not isinstance(parts, list):
        return []
    polygons = [finite(part, len(part)) if isinstance(part, list) else [] for part in parts]
    return [[tidy(v) for v in part] for part in polygons if len(part) >= 6 and len(part) % 2 == 0]


def mask_corners(mask: Mapping[str, Any], size: ImageSize) -> Corners:
    """Box of a run-length encoded mask; raises DataError if it is broken.

    Args:
        mask: ``counts``, a list of runs down the columns, or such a list compressed to text, and
            ``size``, height and width.
        size: Size of the image.

    Returns:
        (x1, y1, x2, y2) in pixels.
    """
    counts, sides = mask.get('counts'), mask.get('size')
    if sides != [size.height, size.width]:
        raise DataError('broken masks', f'of size {str(sides)[:40]} in an image {size}')
    if not isinstance(counts, list):
        raise DataError('masks without bbox', 'only runs as a list can be read; export boxes too')
    is_whole = all(isinstance(run, int) and run >= 0 for run in counts)
    if not is_whole or sum(counts) != size.width * size.height:
        raise DataError('broken masks', f'its runs do not cover the {size} image')
    x, y, width, height = coco_mask.toBbox(coco_mask.frPyObjects(dict(mask), *sides))
    return (float(x), float(y), float(x + width), float(y + height))


def turned(corners: Corners, degrees: float) -> Corners:
    """Box around a box that is turned about its centre."""
    x1, y1, x2, y2 = corners
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_width = ((x2 - x1) * cos + (y2 - y1) * sin) / 2
    half_height = ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def read_corners(
    item: Mapping[str, Any], polygons: Sequence[Sequence[float]], size: ImageSize
) -> Corners:
    """Find the corners of an object: of its box, or else of its polygons or mask.

    Args:
        item: The object.
        polygons: Its polygons.
        size: Size of the image.

    Returns:
        (x1, y1, x2, y2) in pixels.

    Raises:
        DataError: If it has none of them, or broken ones.
    """
    box, mask = item.get('bbox'), item.get('segmentation')
    if box:
        numbers = finite(box, 4)
        if not numbers:
            raise DataError('broken boxes', f'expected x, y, width, height, got {str(box)[:60]}')
        x, y, width, height = numbers
        return (x, y, x + width, y + height)
    if polygons:
        xs = [x for part in polygons for x in part[0::2]]
        ys = [y for part in polygons for y in part[1::2]]
        return (min(xs), min(ys), max(xs), max(ys))
    if isinstance(mask, dict):
        return mask_corners(mask, size)
    raise DataError('objects without bbox', f'segmentation is {str(mask)[:40]}')


def rotation_of(item: Mapping[str, Any]) -> float:
    """Degrees by which CVAT says that a box is turned; raises DataError if it is no number.

    The box of a polygon or mask is the one around it.
    """
    attributes = None if item.get('segmentation') else item.get('attributes')
    value = attributes.get('rotation') if isinstance(attributes, dict) else None
    numbers = finite([value or 0], 1)
    if not numbers:
        raise DataError('broken boxes', f'rotation is {value!r}')
    return numbers[0] % 360


def read_object(
    item: Mapping[str, Any], category_id: int, size: ImageSize, tolerance: float
) -> Any:
    """Read an object.

    Args:
        item: Its entry.
        category_id: Id of its class.
        size: Size of the image.
        tolerance: A box that leaves the image by at most this many pixels is clipped.

    Returns:
        The object. It keeps polygons and area where the box is neither turned nor clipped.

    Raises:
        DataError: If it has no box, a broken one, or one outside the image.
    """
    polygons, rotation = read_polygons(item), rotation_of(item)
    corners = read_corners(item, polygons, size)
    if rotation:  # what leaves the image is cut off, as nobody drew it
        corners, tolerance = turned(corners, rotation), math.inf
    result = box_object(category_id, corners, size, tolerance)
    result = result._replace(is_crowd=bool(item.get('iscrowd')))
    if rotation or result.clipped:
        return result
    area = finite([item.get('area')], 1)
    return result._replace(
        area=tidy(area[0]) if area and area[0] > 0 else result.area, polygons=polygons or None
    )


def read_record(rules: ObjectRules, sample: Sample, report: Report) -> ImageRecord:
    """Read an image's size and objects.

    Args:
        rules: How objects are read.
        sample: The image and its annotation file.
        report: Problems and notes, to which those of the objects are added.

    Returns:
        What the image holds.

    Raises:
        DataError: If the image is broken, or has another size than the file says.
    """
    image, size = rules.images[sample.image], read_image_size(sample.image)
    noted = finite([image.entry.get('width') or 0, image.entry.get('height') or 0], 2)
    if noted and all(noted) and noted != list(size):
        detail = f'{noted[0]:g}x{noted[1]:g}, the image is {size}'
        raise DataError('size in the annotation file differs from the image', detail)
    objects, counts = [], {'turned': 0, 'ignored': 0}
    for number, item in enumerate(image.objects, 1):
        if item.get('ignore'):
            counts['ignored'] += 1
            continue
        key = item.get('category_id')
        name = image.classes.get(key) if isinstance(key, (int, str)) else None
        try:
            if name is None:
                raise DataError('objects of unknown categories', repr(key))
            objects.append(read_object(item, rules.class_ids[name], size, rules.tolerance))
        except DataError as error:
            where = f'{image.entry["file_name"]}: object {number}'
            report.problems.add_error(error, where)
            continue
        counts['turned'] += bool(rotation_of(item))
    return ImageRecord(size, objects, {key: count for key, count in counts.items() if count})


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, SplitChoice]:
    """Read the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        The options, and what they say about splits.
    """
    parser = make_parser('Write annotation files to train on from an export in COCO format.')
    add_tolerance(parser)
    add_ratio(parser)
    add = parser.add_argument
    ann_help = 'annotation file in DATA_ROOT, may hold {split} (default: where CVAT, Label Studio '
    add('--ann-file', metavar='FILE', help=f'{ann_help}and Roboflow put it)')
    image_help = 'folder in DATA_ROOT that names of images start from (default: images)'
    add('--image-dir', default='images', metavar='DIR', help=image_help)
    args = parser.parse_args(argv)
    args.ann_dir = args.ann_file or ''
    return args, check_splits(parser, args)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert all splits, or list what is wrong and write nothing.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: If files are missing or broken, or cannot be written.
    """
    args, choice = parse_args(argv)
    root, report = args.data_root, Report()
    files = find_exports(args, choice)
    exports = {split: (path, read_export(path, report)) for split, path in files.items()}
    images = ImageNames(root, args.image_dir)
    samples, described = collect_images(exports, images, root, choice, report)
    names = list(
        dict.fromkeys(n for _, export in exports.values() for n in export.classes.values())
    )
    keep_sources(files.values(), samples, args)
    class_ids = {name: i for i, name in enumerate(names, 1)}
    read = partial(read_record, ObjectRules(described, class_ids, args.tolerance))
    finish(convert_splits(samples, names, root, read, report), report, args)


if __name__ == '__main__':
    main()
