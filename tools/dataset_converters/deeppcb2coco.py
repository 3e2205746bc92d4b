"""Write COCO annotation files for DeepPCB; the images stay where they are.

``trainval.txt`` and ``test.txt`` of the data root pair an image ``X/Y/Z.jpg``, on disk as
``X/Y/Z_test.jpg``, with a text file that holds ``x1 y1 x2 y2 type`` a line, in pixels.

Example:
    python tools/dataset_converters/deeppcb2coco.py data/deeppcb
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

CLASSES = ('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole')  # types 1 to 6
LISTS = {'train': 'trainval.txt', 'test': 'test.txt'}


class Box(NamedTuple):
    """A defect in pixels; ``category_id`` counts from 1."""

    x1: int
    y1: int
    x2: int
    y2: int
    category_id: int


class Split(NamedTuple):
    """COCO content of a split, what is wrong with its files and how many boxes were clipped."""

    coco: dict[str, Any]
    problems: list[str]
    num_clipped: int


def read_pairs(list_file: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Read the pairs of image and annotation names.

    Args:
        list_file: ``trainval.txt`` or ``test.txt``.

    Returns:
        The pairs, with the image as it is named on disk, and the problems found.

    Raises:
        FileNotFoundError: If there is no such list.
    """
    if not list_file.is_file():
        raise FileNotFoundError(
            f'{list_file} is missing: DATA_ROOT must be the folder of DeepPCB '
            f'that holds {" and ".join(LISTS.values())}'
        )
    pairs, problems = [], []
    for number, line in enumerate(list_file.read_text().splitlines(), 1):
        names = line.split()
        if len(names) == 2:
            image = Path(names[0])
            pairs.append((image.with_name(f'{image.stem}_test{image.suffix}').as_posix(), names[1]))
        elif names:
            problems.append(
                f'{list_file.name}:{number}: expected an image and an annotation file, '
                f'got {line.strip()!r}'
            )
    return pairs, problems


def parse_box(line: str, width: int, height: int, tolerance: int) -> tuple[Box, bool]:
    """Read one annotation line.

    Args:
        line: ``x1 y1 x2 y2 type``.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        tolerance: A box that leaves the image by at most this many pixels is clipped.

    Returns:
        The box and whether it was clipped.

    Raises:
        ValueError: If the line is malformed, the type is unknown or the box is not in the image.
    """
    try:
        x1, y1, x2, y2, category_id = (int(word) for word in line.split())
    except ValueError:
        raise ValueError(f'expected five integers "x1 y1 x2 y2 type", got {line!r}') from None
    if not 1 <= category_id <= len(CLASSES):
        raise ValueError(f'unknown type {category_id}, expected 1 to {len(CLASSES)}')
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f'box {x1} {y1} {x2} {y2} has no area')
    if max(-x1, -y1, x2 - width, y2 - height) > tolerance:
        raise ValueError(
            f'box {x1} {y1} {x2} {y2} leaves the {width}x{height} image by more than '
            f'{tolerance} pixels'
        )
    box = Box(max(x1, 0), max(y1, 0), min(x2, width), min(y2, height), category_id)
    if box.x2 <= box.x1 or box.y2 <= box.y1:
        raise ValueError(f'box {x1} {y1} {x2} {y2} has no area inside the image')
    return box, box[:4] != (x1, y1, x2, y2)


def read_boxes(
    ann_path: Path, name: str, width: int, height: int, tolerance: int
) -> tuple[list[Box], list[str], int]:
    """Read an annotation file.

    Args:
        ann_path: The file.
        name: How to call it in problems.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        tolerance: A box that leaves the image by at most this many pixels is clipped.

    Returns:
        The boxes, the problems found and the number of clipped boxes.
    """
    boxes, problems, num_clipped = [], [], 0
    for number, line in enumerate(ann_path.read_text(errors='replace').splitlines(), 1):
        if not line.strip():
            continue
        try:
            box, clipped = parse_box(line.strip(), width, height, tolerance)
        except ValueError as error:
            problems.append(f'{name}:{number}: {error}')
            continue
        boxes.append(box)
        num_clipped += clipped
    return boxes, problems, num_clipped


def read_size(image_path: Path) -> tuple[int, int] | None:
    """Width and height in pixels from the file's header, None if it is not an image."""
    try:
        with Image.open(image_path) as image:
            return image.size
    except OSError:
        return None


def convert_split(data_root: Path, list_name: str, tolerance: int) -> Split:
    """Collect the COCO content of a split.

    Args:
        data_root: Folder of DeepPCB.
        list_name: The split's list of pairs.
        tolerance: A box that leaves the image by at most this many pixels is clipped.

    Returns:
        The split; images with problems are left out of its content.

    Raises:
        FileNotFoundError: If the list is missing.
    """
    pairs, problems = read_pairs(data_root / list_name)
    images, annotations, num_clipped = [], [], 0
    seen = Counter(image for image, _ in pairs)
    problems += [f'{list_name}: {name} is listed {n} times' for name, n in seen.items() if n > 1]
    for image_name, ann_name in tqdm(pairs, unit='image'):
        missing = [name for name in (image_name, ann_name) if not (data_root / name).is_file()]
        size = None if missing else read_size(data_root / image_name)
        if size is None:
            problems += [f'{name}: missing' for name in missing] or [f'{image_name}: not an image']
            continue
        boxes, wrong, clipped = read_boxes(data_root / ann_name, ann_name, *size, tolerance)
        problems += wrong
        num_clipped += clipped
        images.append(
            {'id': len(images) + 1, 'file_name': image_name, 'width': size[0], 'height': size[1]}
        )
        for box in boxes:
            width, height = box.x2 - box.x1, box.y2 - box.y1
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': len(images),
                    'iscrowd': 0,
                    'category_id': box.category_id,
                    'bbox': [box.x1, box.y1, width, height],
                    'area': width * height,
                }
            )
    print()
    categories = [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)]
    coco = {'images': images, 'annotations': annotations, 'categories': categories}
    return Split(coco, problems, num_clipped)


def shared_images(splits: dict[str, Split]) -> list[str]:
    """Problems of images that lie in more than one split."""
    uses = Counter(
        image['file_name']
        for split in splits.values()
        for image in {i['file_name']: i for i in split.coco['images']}.values()
    )
    return [f'{name}: in more than one of {", ".join(splits)}' for name, n in uses.items() if n > 1]


def count_table(splits: dict[str, Split]) -> str:
    """Table of images, boxes of each class and clipped boxes; a row for each split."""
    header = ('split', 'images', *CLASSES, 'boxes', 'clipped')
    rows = [header]
    for name, split in splits.items():
        counts = Counter(ann['category_id'] for ann in split.coco['annotations'])
        numbers = (
            len(split.coco['images']),
            *(counts[i] for i, _ in enumerate(CLASSES, 1)),
            sum(counts.values()),
            split.num_clipped,
        )
        rows.append((name, *map(str, numbers)))
    widths = [max(len(title), 6) for title in header]
    return '\n'.join(
        '  '.join(f'{cell:>{width}}' for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def write_annotations(splits: dict[str, Split], out_dir: Path) -> None:
    """Write ``<split>.json`` for every split, under a temporary name first.

    Args:
        splits: The splits by their names.
        out_dir: Folder of the files, made if needed.

    Raises:
        OSError: If the folder cannot be written to.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        temporary = out_dir / f'.{name}.json.tmp'
        temporary.write_text(json.dumps(split.coco))
        os.replace(temporary, out_dir / f'{name}.json')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        ``data_root``, ``out_dir`` and ``tolerance``.
    """
    parser = argparse.ArgumentParser(description='Write COCO annotation files for DeepPCB.')
    parser.add_argument(
        'data_root', type=Path, help='folder that holds trainval.txt, test.txt and the images'
    )
    parser.add_argument(
        '--out-dir',
        type=Path,
        help='folder of train.json and test.json (default: DATA_ROOT/annotations)',
    )
    parser.add_argument(
        '--tolerance',
        type=int,
        default=5,
        help='boxes that leave the image by at most this many pixels are clipped (default: 5)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert both splits, or list what is wrong and write nothing.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: With status 1 if files are missing or broken, or cannot be written.
    """
    args = parse_args(argv)
    out_dir = args.out_dir or args.data_root / 'annotations'
    try:
        splits = {
            name: convert_split(args.data_root, list_name, args.tolerance)
            for name, list_name in LISTS.items()
        }
    except OSError as error:
        raise SystemExit(f'error: {error}') from error
    problems = [problem for split in splits.values() for problem in split.problems]
    problems += shared_images(splits)
    if problems:
        summary = (
            f'error: {len(problems)} problems, nothing written; mend these files or '
            'download them again'
        )
        raise SystemExit('\n'.join([*problems, summary]))
    try:
        write_annotations(splits, out_dir)
    except OSError as error:
        raise SystemExit(
            f'error: {error}; choose a folder you can write to with --out-dir'
        ) from error
    print(count_table(splits))
    print(f'written to {out_dir}')


if __name__ == '__main__':
    main()
