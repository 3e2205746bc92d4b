"""Write COCO annotation files for YOLO label files; the images stay where they are.

``data.yaml`` of the data root names the classes and the folders, or lists, of images. Labels lie
beside: those of ``X/images/Y.jpg`` in ``X/labels/Y.txt``, those of other images next to them. A
line is ``class cx cy w h`` or, for a polygon, ``class x1 y1 x2 y2 x3 y3 ...``, in shares of the
image's sides. Where ``data.yaml`` has ``kpt_shape``, lines are boxes with key points, of which the
boxes are taken. An image without a label file has no objects.

Example:
    python tools/dataset_converters/yolo2coco.py data/helmets
    python tools/dataset_converters/yolo2coco.py data/helmets --classes classes.txt \
        --image-dir {split}/images
"""

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _data_package
sys.path.insert(0, str(Path(__file__).resolve().parent))  # what the converters share

import _data_package  # noqa: F401  # the data modules of the checkout's own package
from _conversion import (
    ImageRecord,
    Report,
    add_tolerance,
    convert_splits,
    finish,
    make_parser,
    read_classes,
)
from _split_lists import Sample, numbered_lines, relative_name
from _yolo_data import class_names, collect_samples, folder_images, read_yaml, yaml_images
from _yolo_pose import NUMBERS_OF_BOX, KeyPoints, PoseGuess, check_length, find_shape

from mmdet_salience.datasets.conversion.coco_writer import (
    CocoObject,
    ImageSize,
    box_object,
    read_image_size,
)
from mmdet_salience.datasets.conversion.data_problems import DataError
from mmdet_salience.datasets.conversion.polygons import polygon_object

LARGEST_SHARE = 2  # larger numbers are pixels, not shares of a side


class LabelRules(NamedTuple):
    """How labels are read.

    ``data_root`` is what names in problems start from, ``category_ids`` holds the id of each class
    number. Boxes that leave the image by at most ``tolerance`` pixels are clipped. ``key_points``
    is the shape of those behind each box, None if there are none; ``guess`` looks at polygons.
    """

    data_root: Path
    category_ids: Mapping[int, int]
    tolerance: float
    key_points: KeyPoints | None
    guess: PoseGuess


def parse_numbers(line: str, key_points: KeyPoints | None = None) -> list[float]:
    """Read the numbers of a line.

    Args:
        line: A line of a label file.
        key_points: Shape of the key points behind each box, None if there are none.

    Returns:
        Class, then the shares of the sides: 4 of a box, or 6, 8, 10, ... of a polygon.

    Raises:
        DataError: If the line holds something else.
    """
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        numbers = []
    if key_points is not None and numbers:
        check_length(numbers, key_points)
        numbers = numbers[:NUMBERS_OF_BOX]
    if len(numbers) == 6:
        detail = f'{line!r}; a sixth number is a confidence: these are detections, not labels'
        raise DataError('lines of six numbers', detail)
    if len(numbers) < 5 or len(numbers) % 2 == 0 or not all(map(math.isfinite, numbers)):
        detail = f'expected "class cx cy w h" or "class x1 y1 x2 y2 x3 y3 ...", got {line[:80]!r}'
        raise DataError('broken lines', detail)
    if max(map(abs, numbers[1:])) > LARGEST_SHARE:
        detail = f'expected shares of the sides, from 0 to 1, got {line[:80]!r}'
        raise DataError('lines in pixels', detail)
    return numbers


def parse_object(line: str, size: ImageSize, rules: LabelRules, where: str) -> CocoObject:
    """Read one line of a label file.

    Args:
        line: The line.
        size: Size of the image.
        rules: How labels are read.
        where: File and line.

    Returns:
        The object.

    Raises:
        DataError: If the line is malformed, its class unknown or its box not in the image.
    """
    number, *shares = numbers = parse_numbers(line, rules.key_points)
    if number not in rules.category_ids:
        known = f'{min(rules.category_ids)} to {max(rules.category_ids)}'
        raise DataError('unknown classes', f'{number:g}, expected numbers from {known}')
    category_id = rules.category_ids[int(number)]
    if len(shares) > 4:
        rules.guess.see(numbers, where)
        xs = [share * size.width for share in shares[0::2]]
        ys = [share * size.height for share in shares[1::2]]
        points = list(zip(xs, ys, strict=True))
        return polygon_object(category_id, points, size, rules.tolerance)
    x, width = shares[0] * size.width, shares[2] * size.width
    y, height = shares[1] * size.height, shares[3] * size.height
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return box_object(category_id, corners, size, rules.tolerance)


def read_record(rules: LabelRules, sample: Sample, report: Report) -> ImageRecord:
    """Read an image's size and objects.

    Args:
        rules: How labels are read.
        sample: The image and its label file, None if it has no objects.
        report: Problems and notes, to which those of the lines are added.

    Returns:
        What the image holds.

    Raises:
        DataError: If the image or the label file cannot be read.
    """
    size = read_image_size(sample.image)
    if sample.annotation is None:
        return ImageRecord(size, [], {'no label': 1})
    where = relative_name(sample.annotation, rules.data_root)
    if os.path.exists(sample.annotation) and not os.path.isfile(sample.annotation):
        raise DataError('unreadable label files', 'it is no regular file', where)
    try:
        lines = numbered_lines(sample.annotation)
    except OSError as error:
        raise DataError('unreadable label files', str(error.strerror), where) from error
    objects = []
    for number, line in lines:
        place = f'{where}:{number}'
        try:
            objects.append(parse_object(line, size, rules, place))
        except DataError as error:
            report.problems.add_error(error, place)
    return ImageRecord(size, objects, {'no label': 0})


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        The options; ``image_dir`` is None where ``data.yaml`` names the images.
    """
    parser = make_parser('Write COCO annotation files for YOLO label files.')
    add_tolerance(parser)
    add = parser.add_argument
    yaml_help = 'file that names classes and images (default: DATA_ROOT/data.yaml)'
    add('--data-yaml', type=Path, metavar='FILE', help=yaml_help)
    class_help = "classes 0, 1, 2, ..., or a text file with one a line, instead of data.yaml's"
    add('--classes', nargs='+', metavar='NAME', help=class_help)
    image_help = (
        'folder of the images in DATA_ROOT, such as {split}/images or images/{split}, instead of '
        'those of data.yaml'
    )
    add('--image-dir', metavar='DIR', help=image_help)
    shape_help = (
        'lines are boxes with so many key points of 2 or 3 values, which are left out (default: '
        'kpt_shape of data.yaml)'
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        '--kpt-shape', nargs=2, type=int, metavar=('NUMBER', 'VALUES'), help=shape_help
    )
    polygon_help = 'lines of more than five numbers are polygons, even if they look like poses'
    kind.add_argument('--polygons', action='store_true', help=polygon_help)
    args = parser.parse_args(argv)
    if args.image_dir and '{split}' not in args.image_dir:
        parser.error('--image-dir must hold {split}, such as {split}/images')
    args.classes = read_classes(parser, args)
    args.data_yaml = args.data_yaml or args.data_root / 'data.yaml'
    return args


def read_description(args: argparse.Namespace) -> dict[str, Any] | None:
    """Read ``data.yaml``; it need not be there, nor be whole, where options say all it would.

    Args:
        args: The command line.

    Returns:
        Its content, None if there is none.

    Raises:
        SystemExit: If it is needed, and missing or broken.
    """
    try:
        return read_yaml(args.data_yaml)
    except SystemExit:
        if args.classes and args.image_dir:
            return None
        raise


def main(argv: Sequence[str] | None = None) -> None:
    """Convert all splits, or list what is wrong and write nothing.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: If files are missing or broken, or cannot be written.
    """
    args, report = parse_args(argv), Report()
    content = read_description(args)
    key_points = None if args.polygons else find_shape(args.kpt_shape, content, args.data_yaml)
    if key_points is not None:
        report.notes.add('key points left out, their boxes kept', f'{key_points.number} a box')
    names = dict(enumerate(args.classes or [])) or class_names(content, args.data_yaml)
    images = (
        folder_images(args)
        if args.image_dir
        else yaml_images(content, args.data_yaml, args, report.problems)
    )
    samples = collect_samples(images, args.data_root, report.problems)
    category_ids = {number: i for i, number in enumerate(names, 1)}
    guess = PoseGuess()
    rules = LabelRules(args.data_root, category_ids, args.tolerance, key_points, guess)
    read = partial(read_record, rules)
    splits = convert_splits(samples, list(names.values()), args.data_root, read, report)
    if not args.polygons:
        guess.add_to(report)
    finish(splits, report, args)


if __name__ == '__main__':
    main()
