"""Cut the images of a COCO file into tiles, with their annotations.

Small defects on large images keep their pixels in tiles, and a tile costs a small part of the
image's time and memory.

Example:
    python tools/dataset_converters/tile_coco.py data/deeppcb/annotations/test.json data/deeppcb \
        data/deeppcb_tiles --split val --size 128
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _data_package

import _data_package  # noqa: F401  # the data modules of the checkout's own package

from mmdet_salience.datasets.checks.annotation_file import load_annotation_content
from mmdet_salience.datasets.checks.image_files import find_outside
from mmdet_salience.datasets.conversion.coco_writer import (
    CocoObject,
    CocoSplit,
    ImageSize,
    count_table,
    read_image_size,
    tidy,
    write_splits,
)
from mmdet_salience.datasets.conversion.data_problems import DataError
from mmdet_salience.datasets.image_content import load_image
from mmdet_salience.utils.file_names import distinct_names


class TileRule(NamedTuple):
    """How images are cut.

    Attributes:
        size: Width and height of a tile in pixels.
        overlap: Pixels that neighbouring tiles share at least.
        min_visible: Share of an object's area that a tile has to hold to show it.
    """

    size: int
    overlap: int
    min_visible: float


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Where the tiles begin along an axis.

    Args:
        length: Pixels of the image along the axis.
        size: Pixels of a tile.
        overlap: Pixels that neighbours share at least.

    Returns:
        First pixels, evenly spread so that the tiles cover the image; 0 alone for a small image.
    """
    if length <= size:
        return [0]
    count = -(-(length - overlap) // (size - overlap))
    return np.linspace(0, length - size, count).round().astype(int).tolist()


def cut_objects(boxes: np.ndarray, window: Sequence[int], min_visible: float) -> np.ndarray:
    """Clip boxes to a tile.

    Args:
        boxes: (x1, y1, x2, y2) in pixels of the image, (M, 4).
        window: (x1, y1, x2, y2) of the tile.
        min_visible: Share of a box's area that has to be in the tile.

    Returns:
        Clipped boxes in pixels of the tile, (M, 4); NaN for those that the tile does not show.
    """
    low, high = np.array(window[:2]), np.array(window[2:])
    clipped = np.concatenate([boxes[:, :2].clip(low, high), boxes[:, 2:].clip(low, high)], axis=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    hidden = (sides.prod(axis=1) < min_visible * area) | (sides.min(axis=1) <= 0)
    clipped = clipped - np.tile(low, 2)
    clipped[hidden] = np.nan
    return clipped


def tile_objects(
    annotations: Sequence[dict[str, Any]],
    category_numbers: dict[int, int],
    window: Sequence[int],
    rule: TileRule,
) -> list[CocoObject]:
    """Find the objects of a tile.

    Args:
        annotations: Objects of the image.
        category_numbers: New id of each category's id.
        window: (x1, y1, x2, y2) of the tile in the image.
        rule: How images are cut.

    Returns:
        The objects; an object that the window cuts without ``min_visible`` of it is left out.
    """
    boxes = np.array([item['bbox'] for item in annotations], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    objects = []
    for item, corners in zip(
        annotations, cut_objects(boxes, window, rule.min_visible), strict=True
    ):
        if np.isnan(corners).any():
            continue
        x1, y1, x2, y2 = (tidy(float(value)) for value in corners)
        size = (tidy(x2 - x1), tidy(y2 - y1))
        objects.append(
            CocoObject(
                category_numbers[item['category_id']],
                (x1, y1, *size),
                tidy(size[0] * size[1]),
                is_crowd=bool(item.get('iscrowd')),
                clipped=size != (tidy(item['bbox'][2]), tidy(item['bbox'][3])),
            )
        )
    return objects


def image_tiles(width: int, height: int, rule: TileRule) -> Iterator[tuple[int, int, int, int]]:
    """Windows (x1, y1, x2, y2) of an image's tiles, row after row; inside the image."""
    for top in tile_starts(height, rule.size, rule.overlap):
        for left in tile_starts(width, rule.size, rule.overlap):
            yield left, top, min(left + rule.size, width), min(top + rule.size, height)


def spread(items: Sequence[Any], number: int | None) -> list[Any]:
    """Choose items evenly from first to last; all if there are no more than ``number``."""
    if number is None or number >= len(items):
        return list(items)
    places = np.linspace(0, len(items) - 1, number).round().astype(int)
    return [items[place] for place in places]


def name_tiles(images: Sequence[dict[str, Any]]) -> list[str]:
    """Name the tiles of images after their files.

    Args:
        images: Entries of the annotation file.

    Returns:
        The beginning of the names of each image's tiles, which differ: folders and name, and a
        number where ``a/b.png``, ``a/b.jpg`` and ``a_b.png`` meet in one.
    """
    paths = [PurePosixPath(image['file_name']).with_suffix('') for image in images]
    return distinct_names(
        ['_'.join(part for part in path.parts if part not in ('/', '..')) for path in paths], '-'
    )


def read_image(path: Path, size: ImageSize) -> np.ndarray:
    """Read an image of the annotated size; one of another size is not decoded.

    Args:
        path: The image.
        size: Size that the annotations say.

    Returns:
        BGR (H, W, 3), uint8.

    Raises:
        ValueError: The image cannot be read, or has another size.
    """
    try:
        found = read_image_size(path)
    except DataError as error:
        raise ValueError(f'{path}: {error}; check IMAGE_ROOT') from error
    if found != size:
        raise ValueError(
            f'{path} has {found} pixels, the annotation file says {size}; run '
            'tools/analysis_tools/check_dataset.py'
        )
    return load_image(str(path))


def cut_image(
    pixels: np.ndarray, stem: str, objects: Sequence[list[CocoObject]], rule: TileRule
) -> Iterator[tuple[str, np.ndarray, list[CocoObject]]]:
    """Cut the pixels of an image.

    Args:
        pixels: The image, BGR (H, W, 3).
        stem: What the names of its tiles begin with.
        objects: Objects of each tile; empty tiles are left out.
        rule: How images are cut.

    Yields:
        Name of the tile, its pixels (BGR) and its objects.
    """
    windows = image_tiles(pixels.shape[1], pixels.shape[0], rule)
    for window, found in zip(windows, objects, strict=True):
        if found:
            x1, y1, x2, y2 = window
            yield f'{stem}_{x1}_{y1}.png', pixels[y1:y2, x1:x2], found


def plan_tiles(
    content: dict[str, Any], rule: TileRule
) -> list[tuple[dict[str, Any], list[list[CocoObject]]]]:
    """Find the objects of all tiles.

    Args:
        content: Content of the annotation file.
        rule: How images are cut.

    Returns:
        Each image that has a tile with objects, and the objects of all its tiles.

    Raises:
        KeyError: An entry lacks a key, or names an image or category that is not there.
    """
    numbers = {category['id']: i for i, category in enumerate(content['categories'], 1)}
    by_image: dict[int, list[dict[str, Any]]] = {image['id']: [] for image in content['images']}
    for item in content['annotations']:
        by_image[item['image_id']].append(item)
    plans = []
    for image in content['images']:
        windows = image_tiles(image['width'], image['height'], rule)
        plan = [tile_objects(by_image[image['id']], numbers, w, rule) for w in windows]
        plans += [(image, plan)] if any(plan) else []
    return plans


def require_inside(image_root: Path, names: Sequence[str]) -> None:
    """Refuse names of images that lead out of their folder; raises ValueError."""
    outside = np.flatnonzero(find_outside(image_root, names))
    if len(outside):
        raise ValueError(
            f'{len(outside)} file names lead out of {image_root}, such as {names[outside[0]]}; '
            '--allow-outside reads these files too'
        )


def convert(args: argparse.Namespace) -> CocoSplit:
    """Cut all images and write the tiles.

    Args:
        args: The command line.

    Returns:
        The split.

    Raises:
        FileNotFoundError: The annotation file is missing.
        OSError: A tile cannot be written.
        ValueError: An option makes no sense, or a file is broken.
    """
    rule = TileRule(args.size, args.overlap, args.min_visible)
    if not 0 <= rule.overlap < rule.size:
        raise ValueError(f'--overlap must be at least 0 and below --size {rule.size}')
    content = load_annotation_content(args.ann_file)
    try:
        plans = plan_tiles(content, rule)
        names = [image['file_name'] for image, _ in plans]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{args.ann_file} lacks {error}, or refers to it without having it; '
            'tools/analysis_tools/check_dataset.py lists what is wrong'
        ) from error
    if not args.allow_outside:
        require_inside(args.image_root, names)
    split = CocoSplit([category['name'] for category in content['categories']])
    folder = args.out_dir / args.split
    folder.mkdir(parents=True, exist_ok=True)
    chosen = spread(plans, args.max_images)
    stems = name_tiles([image for image, _ in chosen])
    for stem, (image, plan) in zip(stems, tqdm(chosen, unit='image'), strict=True):
        path = args.image_root / image['file_name']
        whole = read_image(path, ImageSize(image['width'], image['height']))
        for name, pixels, objects in cut_image(whole, stem, plan, rule):
            if not cv2.imwrite(str(folder / name), pixels):
                raise OSError(f'{folder / name} cannot be written; check the space on the disk')
            split.add_image(name, ImageSize(pixels.shape[1], pixels.shape[0]), objects)
    write_splits({args.split: split}, args.out_dir / 'annotations')
    return split


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Cut the images of a COCO file into tiles that show objects.'
    )
    parser.add_argument('ann_file', type=Path, help='annotation file in COCO format')
    parser.add_argument('image_root', type=Path, help='folder that its file names are relative to')
    parser.add_argument(
        'out_dir', type=Path, help='gets SPLIT/*.png and annotations/SPLIT.json; made if needed'
    )
    parser.add_argument('--split', default='train', help='name of the split (default: train)')
    parser.add_argument('--size', type=int, default=640, help='side of a tile (default: 640)')
    parser.add_argument(
        '--overlap', type=int, default=0, help='pixels that neighbours share (default: 0)'
    )
    parser.add_argument(
        '--min-visible',
        type=float,
        default=0.5,
        help='share of an object that a tile has to hold to show it (default: 0.5)',
    )
    parser.add_argument(
        '--max-images', type=int, help='only so many images, evenly from first to last'
    )
    parser.add_argument(
        '--allow-outside',
        action='store_true',
        help='read images that do not lie below IMAGE_ROOT, if the annotation file names such',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Cut the images, or say what is wrong.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        split = convert(args)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(count_table({args.split: split}, with_empty=False))
    print(f'written to {args.out_dir}')


if __name__ == '__main__':
    main()
