"""Write COCO annotation files for LabelMe's JSON files; the images stay where they are.

Polygons, rectangles, circles and masks are objects; shapes of a label that share a group are one.
Lines and points have no area and are a problem. ``imagePath`` leads to the image; where it does not
any more, an image of that name, or of the JSON file's, beside it or in ``--image-dir`` counts.

Example:
    python tools/dataset_converters/labelme2coco.py data/castings --split-ratio 8:2
    python tools/dataset_converters/labelme2coco.py data/castings --ann-dir '{split}'
    python tools/dataset_converters/labelme2coco.py data/castings/one.json
"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _data_package
sys.path.insert(0, str(Path(__file__).resolve().parent))  # what the converters share

import _data_package  # noqa: F401  # the data modules of the checkout's own package
from _conversion import (
    ImageRecord,
    Report,
    add_tolerance,
    convert_splits,
    existing_folder,
    finish,
    keep_sources,
    make_parser,
    read_classes,
)
from _image_pairs import add_ratio, check_splits
from _labelme_files import LabelmeFile, collect_labelme, split_files, write_planned
from _labelme_shapes import class_of, join, shape_object
from _split_lists import Sample, SplitChoice, relative_name

from mmdet_salience.datasets.conversion.coco_writer import CocoObject, ImageSize, read_image_size
from mmdet_salience.datasets.conversion.data_problems import DataError

NO_CLASSES = ('__ignore__', '_background_')  # of LabelMe's lists of labels


class ShapeRules(NamedTuple):
    """How shapes are read.

    ``contents`` holds the files, ``planned`` the sizes of images that are not written yet.
    ``data_root`` is what names in problems start from, ``class_ids`` holds the id of each class and
    ``renamed`` the class of labels that are no classes. Boxes that leave the image by at most
    ``tolerance`` pixels are clipped.
    """

    contents: Mapping[Path, LabelmeFile]
    planned: Mapping[Path, ImageSize]
    data_root: Path
    class_ids: Mapping[str, int]
    renamed: Mapping[str, str]
    tolerance: float


def read_record(rules: ShapeRules, sample: Sample, report: Report) -> ImageRecord:
    """Read an image's size and objects.

    Args:
        rules: How shapes are read.
        sample: The image and its JSON file.
        report: Problems and notes, to which those of the shapes are added.

    Returns:
        What the image holds.

    Raises:
        DataError: If the image is broken, or has another size than the file says.
    """
    where = relative_name(sample.annotation, rules.data_root)
    content = rules.contents[sample.annotation]
    size = rules.planned.get(sample.image) or read_image_size(sample.image)
    if content.size not in (None, tuple(size)):
        detail = f'{ImageSize(*content.size)}, the image is {size}'
        raise DataError('size in the JSON file differs from the image', detail, where)
    groups: dict[tuple, list[CocoObject]] = {}
    num_ignored = 0
    for number, shape in enumerate(content.shapes, 1):
        name, group = class_of(shape, rules.renamed), shape.get('group_id')
        if name in NO_CLASSES:
            num_ignored += 1
            continue
        try:
            if name not in rules.class_ids:
                raise DataError('unknown classes (add them to --classes)', repr(name))
            item = shape_object(rules.class_ids[name], shape, size, rules.tolerance)
        except DataError as error:
            report.problems.add_error(error, f'{where}: shape {number}')
            continue
        key = (number,) if group is None else (name, str(group))
        groups.setdefault(key, []).append(item)
    objects = [join(parts) for parts in groups.values()]
    return ImageRecord(size, objects, {'ignored': num_ignored} if num_ignored else {})


def find_class_names(files: Iterable[LabelmeFile], renamed: Mapping[str, str]) -> list[str]:
    """Collect the names of classes.

    Args:
        files: Content of the files.
        renamed: Class of labels that are no classes.

    Returns:
        All names, sorted.
    """
    names = {class_of(shape, renamed) for file in files for shape in file.shapes}
    return sorted(names - {'', *NO_CLASSES})


def folder_or_file(text: str) -> Path:
    """Read a folder or a JSON file from the command line; raises ArgumentTypeError."""
    is_file = text.endswith('.json') and os.path.isfile(text)
    return Path(text) if is_file else existing_folder(text)


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, SplitChoice]:
    """Read the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        The options, with one name a class in ``classes`` and a mapping in ``rename``, and what they
        say about splits.
    """
    parser = make_parser("Write COCO annotation files for LabelMe's JSON files.", folder_or_file)
    add_tolerance(parser)
    add_ratio(parser)
    add = parser.add_argument
    ann_help = 'folder of the JSON files in DATA_ROOT, may hold {split} (default: DATA_ROOT)'
    add('--ann-dir', default='', metavar='DIR', help=ann_help)
    image_help = 'folder in DATA_ROOT of images that are not where imagePath says'
    add('--image-dir', default='', metavar='DIR', help=image_help)
    extract_help = 'write images that only the JSON files hold (imageData) to this folder'
    add('--extract-images', metavar='DIR', help=f'{extract_help} in DATA_ROOT')
    class_help = 'classes, or a text file with one a line (default: the labels, sorted)'
    add('--classes', nargs='+', metavar='NAME', help=class_help)
    rename_help = 'class of a label, such as dent=pit; may name several labels'
    add('--rename', nargs='+', default=[], metavar='LABEL=CLASS', help=rename_help)
    args = parser.parse_args(argv)
    pairs = [word.rpartition('=') for word in args.rename]
    if not all(label and name for label, _, name in pairs):
        parser.error('--rename expects LABEL=CLASS')
    args.rename = {label: name for label, _, name in pairs}
    names = read_classes(parser, args)
    args.classes = names and [name for name in names if name not in NO_CLASSES]
    return args, check_splits(parser, args)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert all splits, or list what is wrong and write nothing.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: If files are missing or broken, or cannot be written.
    """
    args, choice = parse_args(argv)
    files = None
    if os.path.isfile(args.data_root):
        files, args.data_root = [args.data_root], args.data_root.parent
    report = Report()
    splits = split_files(args.data_root, files, args, choice)
    samples, contents, planned = collect_labelme(args.data_root, splits, args, report)
    keep_sources(contents, samples, args)
    names = args.classes or find_class_names(contents.values(), args.rename)
    class_ids = {name: i for i, name in enumerate(names, 1)}
    rules = ShapeRules(contents, planned, args.data_root, class_ids, args.rename, args.tolerance)
    converted = convert_splits(samples, names, args.data_root, partial(read_record, rules), report)
    kept = {image['file_name'] for split in converted.values() for image in split.coco['images']}
    owners = {sample.image: sample.annotation for items in samples.values() for sample in items}
    extracted = {
        image: owners[image]
        for image in planned
        if image in owners and relative_name(image, args.data_root) in kept
    }
    finish(converted, report, args, partial(write_planned, extracted))


if __name__ == '__main__':
    main()
