"""Write COCO annotation files for DeepPCB; the images stay where they are.

``trainval.txt`` and ``test.txt`` of the data root pair an image ``X/Y/Z.jpg``, on disk as
``X/Y/Z_test.jpg``, with a text file that holds ``x1 y1 x2 y2 type`` a line, in pixels.

Example:
    python tools/dataset_converters/deeppcb2coco.py data/deeppcb
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _data_package

import _data_package  # noqa: F401  # the data modules of the checkout's own package

from mmdet_salience.datasets.checks.image_files import find_outside
from mmdet_salience.datasets.conversion.coco_writer import (
    CocoObject,
    CocoSplit,
    ImageSize,
    box_object,
    count_table,
    read_image_size,
    shared_images,
    write_splits,
)
from mmdet_salience.datasets.conversion.data_problems import DataError

CLASSES = ('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole')  # types 1 to 6
LISTS = {'train': 'trainval.txt', 'test': 'test.txt'}


class Split(CocoSplit):
    """COCO content of a split, and what is wrong with its files."""

    def __init__(self) -> None:
        super().__init__(CLASSES)
        self.problems: list[str] = []


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text file in UTF-8, with their numbers; a byte-order mark is left out."""
    return enumerate(path.read_text(encoding='utf-8-sig', errors='replace').splitlines(), 1)


def read_pairs(list_file: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Read the pairs of image and annotation names.

    Args:
        list_file: ``trainval.txt`` or ``test.txt``.

    Returns:
        The pairs, with the image as it is named on disk, and the problems found.

    Raises:
        FileNotFoundError: If there is no such list.
    """
    if not os.path.isfile(list_file):
        raise FileNotFoundError(
            f'{list_file} is missing: DATA_ROOT must be the folder of DeepPCB '
            f'that holds {" and ".join(LISTS.values())}'
        )
    pairs, problems = [], []
    for number, line in _numbered_lines(list_file):
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


def parse_object(line: str, size: ImageSize, tolerance: int) -> CocoObject:
    """Read one annotation line.

    Args:
        line: ``x1 y1 x2 y2 type``.
        size: Size of the image.
        tolerance: A box that leaves the image by at most this many pixels is clipped.

    Returns:
        The defect.

    Raises:
        ValueError: If the line is malformed, the type is unknown or the box is not in the image.
    """
    try:
        x1, y1, x2, y2, category_id = (int(word) for word in line.split())
    except ValueError:
        raise ValueError(f'expected five integers "x1 y1 x2 y2 type", got {line!r}') from None
    if not 1 <= category_id <= len(CLASSES):
        raise ValueError(f'unknown type {category_id}, expected 1 to {len(CLASSES)}')
    return box_object(category_id, (x1, y1, x2, y2), size, tolerance)


def read_objects(
    ann_path: Path, name: str, size: ImageSize, tolerance: int
) -> tuple[list[CocoObject], list[str]]:
    """Read an annotation file.

    Args:
        ann_path: The file.
        name: How to call it in problems.
        size: Size of the image.
        tolerance: A box that leaves the image by at most this many pixels is clipped.

    Returns:
        The defects and the problems found.
    """
    objects, problems = [], []
    for number, line in _numbered_lines(ann_path):
        if not line.strip():
            continue
        try:
            objects.append(parse_object(line.strip(), size, tolerance))
        except ValueError as error:
            problems.append(f'{name}:{number}: {error}')
    return objects, problems


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
    split = Split()
    pairs, split.problems = read_pairs(data_root / list_name)
    if not pairs:
        split.problems.append(f'{list_name}: names no images')
    seen = Counter(image for image, _ in pairs)
    split.problems += [
        f'{list_name}: {name} is listed {n} times' for name, n in seen.items() if n > 1
    ]
    for image_name, ann_name in tqdm(pairs, unit='image'):
        if find_outside(data_root, [image_name, ann_name]).any():
            split.problems.append(f'{list_name}: {image_name} {ann_name} leads out of {data_root}')
            continue
        missing = [name for name in (image_name, ann_name) if not os.path.isfile(data_root / name)]
        if missing:
            split.problems += [f'{name}: missing, but listed in {list_name}' for name in missing]
            continue
        try:
            size = read_image_size(data_root / image_name)
        except DataError as error:
            split.problems.append(f'{image_name}: {error}')
            continue
        objects, wrong = read_objects(data_root / ann_name, ann_name, size, tolerance)
        split.problems += wrong
        split.add_image(image_name, size, objects)
    print()
    return split


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
    names = {name: [i['file_name'] for i in split.coco['images']] for name, split in splits.items()}
    problems += [
        f'{image}: in more than one of {", ".join(where)}'
        for image, where in shared_images(names).items()
    ]
    if problems:
        summary = (
            f'error: {len(problems)} problems, nothing written; mend these files or '
            'download them again'
        )
        raise SystemExit('\n'.join([*problems, summary]))
    try:
        write_splits(splits, out_dir)
    except OSError as error:
        raise SystemExit(
            f'error: {error}; choose a folder you can write to with --out-dir'
        ) from error
    print(count_table(splits, with_empty=False))
    print(f'written to {out_dir}')


if __name__ == '__main__':
    main()
