"""Write COCO annotation files, boxes and polygons, for masks of classes; the images stay put.

By default the layout is PASCAL VOC's: ``ImageSets/Segmentation/SPLIT.txt`` names the images of a
split, ``JPEGImages/`` holds them and ``SegmentationClass/`` a mask for each. Connected pixels of a
class are an object.

Example:
    python tools/dataset_converters/masks2coco.py data/voc --ignore-color 255 \
        --classes aeroplane bicycle bird
    python tools/dataset_converters/masks2coco.py data/leaks --classes oil=128,0,0 water=0,0,128 \
        --image-dir images --mask-dir masks --split-ratio 6:2:2
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _data_package
sys.path.insert(0, str(Path(__file__).resolve().parent))  # what the converters share

import _data_package  # noqa: F401  # the data modules of the checkout's own package
from _conversion import ImageRecord, Report, convert_splits, finish, make_parser, read_entries
from _image_pairs import PairLayout, add_pair_options, check_splits, collect_pairs, image_suffixes
from _split_lists import IMAGE_SUFFIXES, Sample, SplitChoice, relative_name

from mmdet_salience.datasets.conversion.coco_writer import CocoObject, ImageSize, read_image_size
from mmdet_salience.datasets.conversion.data_problems import DataError
from mmdet_salience.datasets.conversion.mask_classes import (
    Code,
    MaskClasses,
    decode_mask,
    format_code,
    load_mask,
    parse_classes,
)
from mmdet_salience.datasets.conversion.mask_regions import Region, find_regions

MASK_SUFFIXES = (*IMAGE_SUFFIXES, '.gif')
MAX_CODES = 5  # unknown colours of a mask that are listed


class MaskRules(NamedTuple):
    """How masks are read; ``data_root`` is what names in problems start from."""

    data_root: Path
    classes: MaskClasses
    min_area: int
    merge_distance: int


def describe_codes(unknown: Mapping[Code, int]) -> str:
    """List unknown values or colours.

    Args:
        unknown: Number of pixels of each.

    Returns:
        The first ones with their pixels, and how many others there are.
    """
    shown = list(unknown.items())[:MAX_CODES]
    text = '; '.join(f'{format_code(code)} ({number} pixels)' for code, number in shown)
    return text if len(shown) == len(unknown) else f'{text}; {len(unknown) - len(shown)} others'


def read_labels(path: Path, size: ImageSize, classes: MaskClasses, where: str) -> np.ndarray:
    """Read the classes of a mask's pixels.

    Args:
        path: The mask.
        size: Size of its image.
        classes: What its codes mean.
        where: How to call the mask in problems.

    Returns:
        int (H, W), 0 background.

    Raises:
        DataError: If the mask is broken, of another size, or has unknown codes.
    """
    coded = load_mask(path, classes.by_color, where, size)
    labels, unknown = decode_mask(coded, classes)
    if unknown:
        kind = 'unknown colours or values (add them to --classes, or ignore by --ignore-color)'
        raise DataError(kind, describe_codes(unknown), where)
    return labels


def to_object(region: Region) -> CocoObject:
    """Make an object of a region.

    Args:
        region: The region.

    Returns:
        The object; its id is the region's label.
    """
    return CocoObject(region.label, region.box, region.area, region.polygons)


def read_record(rules: MaskRules, sample: Sample, report: Report) -> ImageRecord:
    """Read an image's size and the objects of its mask.

    Args:
        rules: How masks are read.
        sample: The image and its mask.
        report: Problems and notes, to which an empty mask is added.

    Returns:
        What the image holds.

    Raises:
        DataError: If the image or the mask is broken, or they do not fit.
    """
    where = relative_name(sample.annotation, rules.data_root)
    size = read_image_size(sample.image)
    labels = read_labels(sample.annotation, size, rules.classes, where)
    if not labels.any():
        report.notes.add('empty masks, kept as images without objects', where)
    found = find_regions(labels, rules.min_area, rules.merge_distance)
    return ImageRecord(size, list(map(to_object, found.regions)), {'too small': found.num_small})


def _add_mask_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of masks.

    Args:
        parser: The parser, to which they are added in place.
    """
    add = parser.add_argument
    mask_help = 'folder of the masks in DATA_ROOT, may hold {split} (default: SegmentationClass)'
    add('--mask-dir', default='SegmentationClass', dest='ann_dir', metavar='DIR', help=mask_help)
    suffix_help = "what follows the image's name in the mask's, such as _mask or _mask.png"
    add('--mask-suffix', default='', metavar='SUFFIX', help=suffix_help)
    add(
        '--classes',
        nargs='+',
        required=True,
        metavar='CLASS',
        help='NAME=RED,GREEN,BLUE, or NAME=VALUE for grey values and palette indices, or names '
        'alone for the values 1, 2, 3, ...; or a text file with one of these a line',
    )
    back_help = 'value or colour of the background (default: 0 or 0,0,0)'
    add('--background', metavar='CODE', help=back_help)
    ignore_help = (
        'value or colour of pixels to be taken as background, such as 255 or 224,224,192 for the '
        'borders of PASCAL VOC; may be repeated'
    )
    add('--ignore-color', action='append', default=[], metavar='CODE', help=ignore_help)
    tolerance_help = 'most difference of a channel from a colour, for JPEG masks (default: 0)'
    add('--color-tolerance', type=int, default=0, metavar='LEVELS', help=tolerance_help)
    area_help = 'objects of fewer pixels are dropped and counted (default: 1)'
    add('--min-area', type=int, default=1, metavar='PIXELS', help=area_help)
    merge_help = (
        'regions of a class with at most this many pixels between them are one object, with a '
        'polygon for each (default: 0)'
    )
    add('--merge-distance', type=int, default=0, metavar='PIXELS', help=merge_help)


def parse_args(
    argv: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, SplitChoice, MaskRules]:
    """Read the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        The options, what they say about splits, and how masks are read.
    """
    parser = make_parser('Write COCO annotation files for masks of classes.')
    add_pair_options(parser, 'JPEGImages', 'ImageSets/Segmentation')
    _add_mask_options(parser)
    args = parser.parse_args(argv)
    for option in ('color_tolerance', 'min_area', 'merge_distance'):
        if getattr(args, option) < 0:
            parser.error(f'--{option.replace("_", "-")} must not be negative')
    try:
        classes = parse_classes(
            read_entries(args.classes), args.background, args.ignore_color, args.color_tolerance
        )
    except ValueError as error:
        parser.error(f'--classes, --background or --ignore-color: {error}')
    rules = MaskRules(args.data_root, classes, args.min_area, args.merge_distance)
    return args, check_splits(parser, args), rules


def make_layout(args: argparse.Namespace) -> PairLayout:
    """Say where images and masks lie.

    Args:
        args: The command line.

    Returns:
        The layout.
    """
    ending, dot, suffix = args.mask_suffix.rpartition('.')
    suffixes = (f'.{suffix.lower()}',) if dot else MASK_SUFFIXES
    return PairLayout(
        args.image_dir,
        args.ann_dir,
        args.list_dir,
        image_suffixes(args),
        suffixes,
        'a mask',
        '--mask-dir',
        ending if dot else args.mask_suffix,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Convert all splits, or list what is wrong and write nothing.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: If files are missing or broken, or cannot be written.
    """
    args, choice, rules = parse_args(argv)
    report = Report()
    samples = collect_pairs(args.data_root, make_layout(args), choice, report.problems)
    read = partial(read_record, rules)
    splits = convert_splits(samples, rules.classes.names, args.data_root, read, report)
    finish(splits, report, args)


if __name__ == '__main__':
    main()
