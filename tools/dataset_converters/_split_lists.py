"""Which images belong to which split, and what images and lists of them are called."""

import os
import random
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from mmdet_salience.datasets.conversion.coco_writer import shared_images
from mmdet_salience.datasets.conversion.data_problems import ProblemLog
from mmdet_salience.datasets.file_lists import list_below

SPLITS = ('train', 'val', 'test')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')


class Sample(NamedTuple):
    """An image and its annotation file, None where it has none."""

    image: Path
    annotation: Path | None


class SplitChoice(NamedTuple):
    """What the command line says about splits.

    ``splits`` names them, ``ratio`` holds the sizes of splits to be drawn with ``seed``; None
    stands for an option that was not given.
    """

    splits: Sequence[str] | None = None
    ratio: Sequence[float] | None = None
    seed: int = 0


def relative_name(path: Path, root: Path) -> str:
    """Name a file as annotation files do.

    Args:
        path: The file.
        root: The data root.

    Returns:
        Its path relative to the data root with ``/`` between folders; it begins with ``../`` if
        the file lies elsewhere. Links are not followed.
    """
    return Path(os.path.relpath(path, root)).as_posix()


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """List files below a folder, without hidden files and folders.

    Args:
        folder: The folder.
        suffixes: Suffixes in lower case, with the dot; files may have them in upper case.

    Returns:
        The files, sorted; broken links are among them, so that reading them is a problem that
        names them.
    """
    return [
        path
        for path in list_below(folder, suffixes)
        if not any(part.startswith('.') for part in path.relative_to(folder).parts)
    ]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a text file that are not blank.

    Args:
        path: The file, UTF-8 with or without a byte order mark.

    Returns:
        Number of each line, from 1, and the line without white space around it.

    Raises:
        OSError: If the file cannot be read.
    """
    text = path.read_text(encoding='utf-8-sig', errors='replace')
    lines = enumerate(text.splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file that are not blank.

    Args:
        path: The file.

    Returns:
        The lines without white space around them.

    Raises:
        OSError: If the file cannot be read.
    """
    return [line for _, line in numbered_lines(path)]


def read_list(path: Path) -> list[str]:
    """Read a list of images.

    Args:
        path: The text file.

    Returns:
        Its lines that are not blank.

    Raises:
        SystemExit: If the file cannot be read.
    """
    try:
        return read_lines(path)
    except OSError as error:
        raise SystemExit(f'error: cannot read {path}: {error.strerror}') from error


def parse_ratio(text: str) -> list[float]:
    """Read sizes of splits from the command line.

    Args:
        text: Positive numbers with colons between them, such as ``6:2:2``.

    Returns:
        The numbers.

    Raises:
        ArgumentTypeError: If the text is something else.
    """
    try:
        ratio = [float(part) for part in text.split(':')]
    except ValueError:
        ratio = []
    if len(ratio) < 2 or not all(0 < part < float('inf') for part in ratio):
        raise ArgumentTypeError(f'expected positive numbers such as 6:2:2, got {text!r}')
    return ratio


def divide(names: Sequence[str], ratio: Sequence[float], seed: int) -> list[list[str]]:
    """Divide images at random, the same way for the same names and seed.

    Args:
        names: Names of the images.
        ratio: Sizes of the parts, in any unit.
        seed: Seed of the draw.

    Returns:
        The names of each part, sorted.
    """
    order = sorted(names)
    random.Random(seed).shuffle(order)
    total = sum(ratio)
    ends = [round(len(order) * part / total) for part in accumulate(ratio)]
    starts = [0, *ends[:-1]]
    return [sorted(order[start:end]) for start, end in zip(starts, ends, strict=True)]


def divide_files(
    files: Sequence[Path], root: Path, choice: SplitChoice, word: str
) -> dict[str, list[Path]]:
    """Divide files by the ratio; without one all go to the one split that is named.

    Args:
        files: The files.
        root: The data root.
        choice: What the command line says about splits.
        word: What messages call the files.

    Returns:
        The files of each split.

    Raises:
        SystemExit: If there are several splits and no ratio, or too few files for it.
    """
    splits = choice.splits or SPLITS
    if choice.ratio is None:
        if len(choice.splits or ()) > 1:
            raise SystemExit(
                f'error: nothing says which {word} belong to {", ".join(splits)}; divide them by '
                '--split-ratio, such as 8:2, or name one of --splits'
            )
        return {splits[0]: list(files)}
    named = {relative_name(path, root): path for path in files}
    parts = divide(list(named), choice.ratio, choice.seed)
    if not all(parts):
        raise SystemExit(
            f'error: {len(files)} {word} are too few for {len(parts)} splits of this --split-ratio'
        )
    return {
        split: [named[name] for name in part] for split, part in zip(splits, parts, strict=False)
    }


def unique_names(names: Iterable[str], where: str, log: ProblemLog) -> list[str]:
    """Drop repeated entries of a list and report them.

    Args:
        names: Entries of a list.
        where: The list's name in problems.
        log: Log of problems, to which they are added.

    Returns:
        Each entry once, in its first place.
    """
    kept: dict[str, None] = {}
    for name in names:
        if name in kept:
            log.add('images listed more than once', where, name)
        kept[name] = None
    return list(kept)


def drop_shared(
    samples: dict[str, list[Sample]], root: Path, log: ProblemLog
) -> dict[str, list[Sample]]:
    """Leave an image in the first of its splits only, and report it.

    Args:
        samples: Samples of each split.
        root: The data root.
        log: Log of problems, to which they are added.

    Returns:
        The samples of each split, no image in two of them.
    """
    names = {
        split: [relative_name(sample.image, root) for sample in items]
        for split, items in samples.items()
    }
    shared = shared_images(names)
    for name, splits in shared.items():
        log.add('images in more than one split', name, f'in {" and ".join(splits)}')
    return {
        split: [
            sample
            for name, sample in zip(names[split], items, strict=True)
            if shared.get(name, [split])[0] == split
        ]
        for split, items in samples.items()
    }


def find_splits(template: str, choice: SplitChoice, remedy: str) -> dict[str, Path]:
    """Find the files or folders that define the splits.

    Args:
        template: Their path, with ``{split}`` in it.
        choice: The splits; without names, train, val and test where there are such.
        remedy: What to do if there are none.

    Returns:
        The path of each split.

    Raises:
        SystemExit: If one that the command line names is missing, or all are.
    """
    paths = {s: Path(template.replace('{split}', s)) for s in choice.splits or SPLITS}
    found = {split: path for split, path in paths.items() if os.path.exists(path)}
    if not found or (choice.splits and len(found) < len(paths)):
        missing = ', '.join(str(path) for split, path in paths.items() if split not in found)
        raise SystemExit(f'error: there is no {missing}; {remedy}')
    return found
