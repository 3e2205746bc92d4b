"""What the converters share: options, the loop over images, and what is written and printed."""

import argparse
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from _split_lists import Sample, read_lines, relative_name
from tqdm import tqdm

from mmdet_salience.datasets.conversion.coco_writer import (
    CocoObject,
    CocoSplit,
    ImageSize,
    count_table,
    write_files,
    write_splits,
)
from mmdet_salience.datasets.conversion.data_problems import DataError, ProblemLog

OUTSIDE = 'images outside DATA_ROOT (training takes them with data_check.allow=[image_outside])'
MAX_SHOWN = 20  # problems of a kind that are printed


@dataclass
class Report:
    """What is wrong with the data set, and what is worth knowing about it."""

    problems: ProblemLog = field(default_factory=ProblemLog)
    notes: ProblemLog = field(default_factory=ProblemLog)


class ImageRecord(NamedTuple):
    """What an image holds; ``counts`` goes to further columns of the table of counts."""

    size: ImageSize
    objects: Sequence[CocoObject]
    counts: Mapping[str, int]


def existing_folder(text: str) -> Path:
    """Read a folder from the command line.

    Args:
        text: Its path.

    Returns:
        The folder.

    Raises:
        ArgumentTypeError: If there is no such folder.
    """
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f'there is no folder {text}; check the path')
    return Path(text)


def split_name(text: str) -> str:
    """Read the name of a split, which names a file, from the command line.

    Args:
        text: The name.

    Returns:
        The name.

    Raises:
        ArgumentTypeError: If it cannot name a file.
    """
    if not text or Path(text).name != text:
        raise argparse.ArgumentTypeError(f'expected a name without folders, got {text!r}')
    return text


def make_parser(
    description: str, read_root: Callable[[str], Path] = existing_folder
) -> argparse.ArgumentParser:
    """Make a parser with the options that all converters have.

    Args:
        description: What the converter does.
        read_root: Reads the data root from the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add('data_root', type=read_root, help='folder of the dataset; images stay in it')
    out_help = 'folder of the annotation files (default: DATA_ROOT/annotations)'
    add('--out-dir', type=Path, help=out_help)
    split_help = 'names of the splits (default: those of train, val, test that are there)'
    add('--splits', nargs='+', type=split_name, help=split_help)
    skip_help = 'leave out what has problems and write the rest; without it nothing is written'
    add('--skip-problems', action='store_true', help=skip_help)
    list_help = 'write the full list of problems and notes to this file'
    add('--problems', type=Path, metavar='FILE', help=list_help)
    return parser


def add_tolerance(parser: argparse.ArgumentParser) -> None:
    """Declare how far a box may leave its image.

    Args:
        parser: The parser, to which the option is added in place.
    """
    parser.add_argument(
        '--tolerance',
        type=float,
        default=5,
        metavar='PIXELS',
        help='boxes that leave the image by at most this many pixels are clipped and counted, '
        'others are a problem (default: 5)',
    )


def read_entries(words: Sequence[str]) -> list[str]:
    """Read the classes of ``--classes``.

    Args:
        words: The words of the command line, or the name of a text file with one class a line.

    Returns:
        One entry for each class.

    Raises:
        ValueError: If there are none, one is there twice or the file cannot be read.
    """
    entries = list(words)
    is_file = len(words) == 1 and (os.path.isfile(words[0]) or words[0].endswith('.txt'))
    if is_file:
        try:
            entries = [line for line in read_lines(Path(words[0])) if not line.startswith('#')]
        except OSError as error:
            raise ValueError(f'cannot read the classes of {words[0]}: {error.strerror}') from error
    repeated = {entry for entry in entries if entries.count(entry) > 1}
    if repeated or not entries:
        wrong = f'repeated: {", ".join(sorted(repeated))}' if repeated else f'none in {words[0]}'
        raise ValueError(f'expected different classes, {wrong}')
    return entries


def read_classes(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str] | None:
    """Classes that ``--classes`` names, in words or files; None without it, exit where wrong."""
    try:
        return args.classes and read_entries(args.classes)
    except ValueError as error:
        parser.error(f'--classes: {error}')


def convert_splits(
    samples: Mapping[str, Sequence[Sample]],
    class_names: Sequence[str],
    data_root: Path,
    read_record: Callable[[Sample, Report], ImageRecord],
    report: Report,
) -> dict[str, CocoSplit]:
    """Collect the COCO content of all splits.

    Args:
        samples: Images and annotation files of each split.
        class_names: Names of the classes; their ids are 1, 2, 3, ...
        data_root: Folder that file names are relative to.
        read_record: Reads an image's size and objects. It adds what is wrong with an object to the
            report, and raises DataError for what is wrong with an image.
        report: Problems and notes, to which those of the images are added.

    Returns:
        The splits; images with problems are left out.
    """
    splits = {}
    for split, items in samples.items():
        splits[split] = CocoSplit(class_names)
        for sample in tqdm(items, desc=split, unit='image', disable=None):
            name = relative_name(sample.image, data_root)
            try:
                record = read_record(sample, report)
            except DataError as error:
                report.problems.add_error(error, name)
                continue
            if name.startswith('../'):
                report.notes.add(OUTSIDE, name)
            splits[split].add_image(name, record.size, record.objects)
            splits[split].counts.update(record.counts)
    return splits


def _write_problems(report: Report, path: Path) -> None:
    """Write the full list of problems and notes.

    Args:
        report: Problems and notes.
        path: The file.

    Raises:
        SystemExit: If it cannot be written.
    """
    text = f'{report.problems.total} problems\n{report.problems.text()}\n\n{report.notes.text()}'
    try:
        write_files({path: f'{text.strip()}\n'})
    except OSError as error:
        raise SystemExit(f'error: {error}; name another file for --problems') from error


def _check_report(splits: Mapping[str, CocoSplit], report: Report, skip: bool) -> None:
    """Stop where there is something that must not be written.

    Args:
        splits: The splits by their names.
        report: Problems and notes.
        skip: Whether to go on in spite of problems.

    Raises:
        SystemExit: If there are problems, unless they are skipped, no classes, or a split has no
            images.
    """
    problems = report.problems
    if problems.total and not skip:
        raise SystemExit(
            f'{problems.text(MAX_SHOWN)}\n'
            f'error: {problems.total} problems, nothing written; mend them, or leave out what has '
            'problems by --skip-problems (--problems FILE writes the full list)'
        )
    if problems.total:
        print(f'left out because of {problems.total} problems:\n{problems.text(MAX_SHOWN)}')
    if not all(content.coco['categories'] for content in splits.values()):
        raise SystemExit('error: the files name no classes, nothing written; give --classes')
    empty = [split for split, content in splits.items() if not content.coco['images']]
    if empty:
        raise SystemExit(
            f'error: no images left in {", ".join(empty)}, nothing written; name the splits to be '
            'written by --splits'
        )


def output_folder(args: argparse.Namespace) -> Path:
    """Folder of the annotation files."""
    return args.out_dir or args.data_root / 'annotations'


def keep_sources(sources: Iterable[Path], splits: Iterable[str], args: argparse.Namespace) -> None:
    """Make sure that no file is replaced that was read.

    Args:
        sources: Files that were read.
        splits: Names of the splits.
        args: The command line.

    Raises:
        SystemExit: If one would be.
    """
    outputs = {os.path.realpath(output_folder(args) / f'{split}.json') for split in splits}
    for path in sources:
        if os.path.realpath(path) in outputs:
            raise SystemExit(f'error: {path} is read and would be replaced; name an --out-dir')


def finish(
    splits: Mapping[str, CocoSplit],
    report: Report,
    args: argparse.Namespace,
    write_images: Callable[[], None] | None = None,
) -> None:
    """Write the annotation files and print what they hold, or say why not.

    Args:
        splits: The splits by their names.
        report: Problems and notes.
        args: The command line.
        write_images: Writes images that belong to the splits, once all is known to be right.

    Raises:
        SystemExit: If there are problems, unless they are skipped, a split has no images, or
            files cannot be written.
    """
    if args.problems:
        _write_problems(report, args.problems)
    _check_report(splits, report, args.skip_problems)
    if write_images is not None:
        write_images()
    out_dir = output_folder(args)
    try:
        files = write_splits(splits, out_dir)
    except OSError as error:
        raise SystemExit(
            f'error: {error}; choose a folder you can write to with --out-dir'
        ) from error
    if report.notes.total:
        print(f'notes:\n{report.notes.text(MAX_SHOWN)}')
    names = tuple(category['name'] for category in next(iter(splits.values())).coco['categories'])
    print(count_table(splits))
    print(f'classes: {names}')
    print(f'written to {out_dir}')
    command = ['python', 'tools/analysis_tools/check_dataset.py', str(files[0])]
    print(f'next: {shlex.join([*command, "--image-dir", str(args.data_root)])}')
