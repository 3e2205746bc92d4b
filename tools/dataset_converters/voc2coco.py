"""Write COCO annotation files for boxes in PASCAL VOC's XML; the images stay where they are.

``ImageSets/Main/SPLIT.txt`` names the images of a split, ``JPEGImages/`` holds them and
``Annotations/`` an XML file for each. All three folders have options.

Example:
    python tools/dataset_converters/voc2coco.py data/blood_cells
    python tools/dataset_converters/voc2coco.py data/NEU-DET --image-dir IMAGES \
        --ann-dir ANNOTATIONS --split-ratio 7:1:2
"""

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

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
from _image_pairs import PairLayout, add_pair_options, check_splits, collect_pairs, image_suffixes
from _split_lists import Sample, SplitChoice, relative_name

from mmdet_salience.datasets.conversion.coco_writer import (
    CocoObject,
    ImageSize,
    box_object,
    read_image_size,
)
from mmdet_salience.datasets.conversion.data_problems import DataError

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


class BoxRules(NamedTuple):
    """How boxes are read.

    ``data_root`` is what names in problems start from, ``class_ids`` holds the id of each class.
    ``first_pixel`` is the coordinate of the image's first pixel, 1 or 0. ``difficult`` is crowd,
    keep or drop. Boxes that leave the image by at most ``tolerance`` pixels are clipped.
    """

    data_root: Path
    class_ids: Mapping[str, int]
    first_pixel: int
    difficult: str
    tolerance: float


def read_xml(path: Path, where: str) -> ElementTree.Element:
    """Parse an annotation file.

    Args:
        path: The file.
        where: How to call it in problems.

    Returns:
        Its root.

    Raises:
        DataError: If it is not XML or cannot be read.
    """
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError('broken XML files', str(error), where) from error


def _number(element: ElementTree.Element | None, tag: str) -> float:
    """Read a number.

    Args:
        element: The element that should hold it, None where it is missing.
        tag: Name of the element in it.

    Returns:
        The number.

    Raises:
        DataError: If there is none.
    """
    text = (element.findtext(tag) if element is not None else None) or ''
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError('broken boxes', f'expected a number as {tag}, got {text.strip()!r}')
    return value


def _name(element: ElementTree.Element) -> str:
    """Name of an object's class.

    Args:
        element: The object.

    Returns:
        The name, empty if it has none.
    """
    return (element.findtext('name') or '').strip()


def check_size(root: ElementTree.Element, size: ImageSize, where: str) -> None:
    """Compare the size in an annotation file, if there is one, with the image's.

    Args:
        root: Root of the file.
        size: Size of the image.
        where: How to call the file in problems.

    Raises:
        DataError: If they differ.
    """
    noted = [root.findtext(f'size/{side}', '').strip() for side in ('width', 'height')]
    try:
        differs = tuple(map(float, noted)) not in (tuple(size), (0, 0))  # some tools write 0
    except ValueError:
        differs = any(noted)
    if differs:
        detail = f'{"x".join(noted)}, the image is {size}'
        raise DataError('size in the XML file differs from the image', detail, where)


def is_difficult(element: ElementTree.Element) -> bool:
    """Whether an object is marked as difficult.

    Args:
        element: The object.

    Returns:
        Whether it is.
    """
    return element.findtext('difficult', '0').strip().lower() in ('1', 'true')


def read_object(element: ElementTree.Element, size: ImageSize, rules: BoxRules) -> CocoObject:
    """Read an object.

    VOC counts pixels from 1 and includes the last: a box covers x from xmin - 1 up to xmax.

    Args:
        element: The object.
        size: Size of the image.
        rules: How boxes are read.

    Returns:
        The object.

    Raises:
        DataError: If its class is unknown, or its box is broken or not in the image.
    """
    name = _name(element)
    if name not in rules.class_ids:
        raise DataError('unknown classes (add them to --classes)', repr(name))
    box = element.find('bndbox')
    x1, y1, x2, y2 = (_number(box, tag) for tag in CORNERS)
    corners = (x1 - rules.first_pixel, y1 - rules.first_pixel, x2, y2)
    item = box_object(rules.class_ids[name], corners, size, rules.tolerance)
    return item._replace(is_crowd=rules.difficult == 'crowd' and is_difficult(element))


def read_record(rules: BoxRules, sample: Sample, report: Report) -> ImageRecord:
    """Read an image's size and objects.

    Args:
        rules: How boxes are read.
        sample: The image and its annotation file.
        report: Problems and notes, to which those of the objects are added.

    Returns:
        What the image holds.

    Raises:
        DataError: If the image or the file is broken, or their sizes differ.
    """
    where = relative_name(sample.annotation, rules.data_root)
    size = read_image_size(sample.image)
    root = read_xml(sample.annotation, where)
    check_size(root, size, where)
    objects, num_dropped = [], 0
    for number, element in enumerate(root.findall('object'), 1):
        if rules.difficult == 'drop' and is_difficult(element):
            num_dropped += 1
            continue
        try:
            objects.append(read_object(element, size, rules))
        except DataError as error:
            report.problems.add_error(error, f'{where}: object {number}')
    lowest = [box.findtext(tag) for box in root.findall('object/bndbox') for tag in CORNERS[:2]]
    if rules.first_pixel and '0' in lowest:
        report.notes.add('boxes that start at 0, not at 1 (see --zero-based)', where)
    return ImageRecord(size, objects, {'dropped': num_dropped} if rules.difficult == 'drop' else {})


def find_class_names(files: Iterable[Path]) -> list[str]:
    """Collect the names of classes.

    Args:
        files: Annotation files; broken ones are passed over.

    Returns:
        All names, sorted.
    """
    names = set()
    for path in files:
        try:
            names |= {_name(element) for element in read_xml(path, '').findall('object')}
        except DataError:
            continue
    return sorted(names - {''})


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, SplitChoice]:
    """Read the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        The options, with one name a class in ``classes``, and what they say about splits.
    """
    parser = make_parser('Write COCO annotation files for boxes in PASCAL VOC XML files.')
    add_pair_options(parser, 'JPEGImages', 'ImageSets/Main')
    add_tolerance(parser)
    add = parser.add_argument
    ann_help = 'folder of the XML files in DATA_ROOT, may hold {split} (default: Annotations)'
    add('--ann-dir', default='Annotations', metavar='DIR', help=ann_help)
    class_help = 'classes, or a text file with one a line (default: those of the files, sorted)'
    add('--classes', nargs='+', metavar='NAME', help=class_help)
    zero_help = 'the files count pixels from 0 and xmax - xmin is the width; VOC counts from 1'
    add('--zero-based', action='store_true', help=zero_help)
    add(
        '--difficult',
        choices=('crowd', 'keep', 'drop'),
        default='crowd',
        help='objects marked as difficult: "crowd" gives them iscrowd=1, so that they are neither '
        'trained on nor scored, hit or missed, as in the VOC challenge; "keep" makes them objects '
        'like others; "drop" leaves them out, so that finding one is an error (default: crowd)',
    )
    args = parser.parse_args(argv)
    args.classes = read_classes(parser, args)
    return args, check_splits(parser, args)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert all splits, or list what is wrong and write nothing.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: If files are missing or broken, or cannot be written.
    """
    args, choice = parse_args(argv)
    layout = PairLayout(
        args.image_dir,
        args.ann_dir,
        args.list_dir,
        image_suffixes(args),
        ('.xml',),
        'an XML file',
        '--ann-dir',
    )
    report = Report()
    samples = collect_pairs(args.data_root, layout, choice, report.problems)
    names = args.classes or find_class_names(s.annotation for i in samples.values() for s in i)
    class_ids = {name: i for i, name in enumerate(names, 1)}
    rules = BoxRules(
        args.data_root, class_ids, int(not args.zero_based), args.difficult, args.tolerance
    )
    splits = convert_splits(samples, names, args.data_root, partial(read_record, rules), report)
    finish(splits, report, args)


if __name__ == '__main__':
    main()
