"""Pairs of an image and a file of annotations with the same name, for the converters."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from _split_lists import (
    IMAGE_SUFFIXES,
    SPLITS,
    Sample,
    SplitChoice,
    divide,
    drop_shared,
    find_splits,
    list_files,
    parse_ratio,
    read_list,
    unique_names,
)

from mmdet_salience.datasets.conversion.data_problems import ProblemLog

IMAGE_PROBLEMS = ('missing images', 'names of several images')


class PairLayout(NamedTuple):
    """Where images and their annotation files lie, relative to the data root.

    Folders may hold ``{split}``. An annotation file is named like its image, then ``ending`` and
    one of ``ann_suffixes``. Messages call it ``ann_word``, its folder's option ``ann_option``.
    """

    image_dir: str
    ann_dir: str
    list_dir: str
    image_suffixes: Sequence[str]
    ann_suffixes: Sequence[str]
    ann_word: str
    ann_option: str
    ending: str = ''


class FileIndex:
    """Files by their path below a folder, without suffix and without an ending before it.

    Args:
        folder: The folder.
        files: Files below it.
        ending: What their names must end with.
    """

    def __init__(self, folder: Path, files: Iterable[Path], ending: str = '') -> None:
        self._files: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in files:
            name = path.relative_to(folder).with_suffix('').as_posix()
            if name.endswith(ending):
                name = name.removesuffix(ending)
                self._files.setdefault(name, []).append(path)
                self._by_stem.setdefault(name.rpartition('/')[2], []).append(path)

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._files)

    @property
    def files(self) -> set[Path]:
        """All files."""
        return {path for paths in self._files.values() for path in paths}

    def find(self, name: str) -> list[Path]:
        """Find the files of a name.

        Args:
            name: A name, with folders or without.

        Returns:
            The files of this name. Without any, those with the same last part, where either they
            or the name have no folders: lists and annotations often leave them out.
        """
        if name in self._files:
            return self._files[name]
        folder, _, stem = name.rpartition('/')
        return self._files.get(stem, []) if folder else self._by_stem.get(stem, [])


def index_folders(root: Path, layout: PairLayout, split: str) -> tuple[FileIndex, FileIndex]:
    """Index the images and annotation files of a split.

    Args:
        root: The data root.
        layout: Where the files lie.
        split: Name of the split.

    Returns:
        Images, without files that are annotations, and annotation files.

    Raises:
        SystemExit: If a folder is missing.
    """
    image_dir = root / layout.image_dir.replace('{split}', split)
    ann_dir = root / layout.ann_dir.replace('{split}', split)
    for folder, option in ((image_dir, '--image-dir'), (ann_dir, layout.ann_option)):
        if not folder.is_dir():
            raise SystemExit(f'error: there is no folder {folder}; name the right one by {option}')
    annotations = FileIndex(ann_dir, list_files(ann_dir, layout.ann_suffixes), layout.ending)
    images = list_files(image_dir, layout.image_suffixes)
    if layout.ending or ann_dir != image_dir:
        no_images = annotations.files
        images = [path for path in images if path not in no_images]
    return FileIndex(image_dir, images), annotations


def _names_of_splits(
    root: Path, layout: PairLayout, choice: SplitChoice, log: ProblemLog
) -> dict[str, list[str]]:
    """Name the images of each split.

    Args:
        root: The data root.
        layout: Where the files lie.
        choice: What the command line says about splits.
        log: Log of problems, to which repeated names are added.

    Returns:
        Names of each split, from its folder, by the ratio or from its list.

    Raises:
        SystemExit: If folders or lists are missing, or there are too few images for the ratio.
    """
    if '{split}' in layout.image_dir:
        remedy = 'name the folder of images by --image-dir and the splits by --splits'
        folders = find_splits(str(root / layout.image_dir), choice, remedy)
        return {split: index_folders(root, layout, split)[0].names for split in folders}
    if choice.ratio:
        names = index_folders(root, layout, '')[0].names
        parts = divide(names, choice.ratio, choice.seed)
        if not all(parts):
            raise SystemExit(
                f'error: {len(names)} images in {root / layout.image_dir} are too few for '
                f'{len(parts)} splits of this --split-ratio'
            )
        return dict(zip(choice.splits or SPLITS, parts, strict=False))
    remedy = 'name the folder of lists by --list-dir, or divide all images by --split-ratio 6:2:2'
    lists = find_splits(str(root / layout.list_dir / '{split}.txt'), choice, remedy)
    return {
        split: unique_names(read_list(path), f'{layout.list_dir}/{path.name}', log)
        for split, path in lists.items()
    }


def _only_file(
    files: Sequence[Path], name: str, kinds: tuple[str, str], log: ProblemLog, source: str = ''
) -> bool:
    """Whether there is exactly one file of a name; if not, that is a problem.

    Args:
        files: Files of the name.
        name: The name.
        kinds: Kinds of the problem if there is no file, and if there is more than one.
        log: Log of problems, to which it is added.
        source: Where the name of a missing file comes from.

    Returns:
        Whether there is exactly one file.
    """
    if len(files) != 1:
        log.add(kinds[bool(files)], name, ', '.join(path.name for path in files) or source)
    return len(files) == 1


def _pair_names(
    names: Sequence[str],
    indexes: tuple[FileIndex, FileIndex],
    ann_word: str,
    log: ProblemLog,
    source: str,
) -> list[Sample]:
    """Find image and annotation file of each name.

    Args:
        names: Names of a split, with or without a suffix.
        indexes: Images and annotation files.
        ann_word: What an annotation file is.
        log: Log of problems, to which files that are missing or not unique are added.
        source: Where names come from that no image has.

    Returns:
        The samples.
    """
    samples = []
    owners: dict[Path, str] = {}
    for name in names:
        stem = name.rpartition('.')[0] if name.lower().endswith(IMAGE_SUFFIXES) else name
        images = indexes[0].find(stem)
        if not _only_file(images, name, IMAGE_PROBLEMS, log, source):
            continue
        files = [path for path in indexes[1].find(stem) if path != images[0]]
        kinds = (f'images without {ann_word}', f'images with more than one {ann_word}')
        if not _only_file(files, name, kinds, log):
            continue
        owner = owners.setdefault(files[0], name)
        if owner == name:
            samples.append(Sample(images[0], files[0]))
        else:
            log.add('annotation files of several images', files[0].name, f'{owner} and {name}')
    return samples


def add_pair_options(parser: argparse.ArgumentParser, image_dir: str, list_dir: str) -> None:
    """Declare where images and lists of splits lie, and how to do without lists.

    Args:
        parser: The parser, to which the options are added in place.
        image_dir: Usual folder of the images.
        list_dir: Usual folder of the lists.
    """
    add = parser.add_argument
    image_help = f'folder of the images in DATA_ROOT, may hold {{split}} (default: {image_dir})'
    add('--image-dir', default=image_dir, metavar='DIR', help=image_help)
    suffix_help = 'suffix of the images, such as .jpg (default: any usual one)'
    add('--image-suffix', metavar='SUFFIX', help=suffix_help)
    list_help = f'folder of SPLIT.txt, with the name of an image a line (default: {list_dir})'
    add('--list-dir', default=list_dir, metavar='DIR', help=list_help)
    add_ratio(parser)


def add_ratio(parser: argparse.ArgumentParser) -> None:
    """Declare how images are divided at random.

    Args:
        parser: The parser, to which the options are added in place.
    """
    ratio_help = 'divide all images at random instead, into splits of these sizes, such as 6:2:2'
    parser.add_argument('--split-ratio', type=parse_ratio, metavar='RATIO', help=ratio_help)
    parser.add_argument('--seed', type=int, default=0, help='seed of --split-ratio (default: 0)')


def check_splits(parser: argparse.ArgumentParser, args: argparse.Namespace) -> SplitChoice:
    """Check the options of splits against each other.

    Args:
        parser: The parser, which ends the program if they do not fit.
        args: The command line, with the options of :func:`add_pair_options`.

    Returns:
        What it says about splits.
    """
    splits, ratio = list(dict.fromkeys(args.splits or [])), args.split_ratio
    if ratio and len(ratio) != len(splits or SPLITS[: len(ratio)]):
        parser.error(f'--split-ratio has {len(ratio)} parts; name as many different --splits')
    if ratio and '{split}' in args.image_dir + args.ann_dir:
        parser.error('--split-ratio does not go with {split} in a folder; leave out one of them')
    return SplitChoice(splits or None, ratio, args.seed)


def image_suffixes(args: argparse.Namespace) -> tuple[str, ...]:
    """Suffixes of images, in lower case, as the command line says.

    Args:
        args: The command line, with the options of :func:`add_pair_options`.

    Returns:
        The one it names, else all usual ones.
    """
    suffix = args.image_suffix
    return (f'.{suffix.lower().lstrip(".")}',) if suffix else IMAGE_SUFFIXES


def collect_pairs(
    root: Path, layout: PairLayout, choice: SplitChoice, log: ProblemLog
) -> dict[str, list[Sample]]:
    """Pair images with their annotation files.

    Args:
        root: The data root.
        layout: Where the files lie.
        choice: What the command line says about splits.
        log: Log of problems, to which files that are missing or not unique are added.

    Returns:
        Samples of each split, all with an annotation file, no image in two splits.

    Raises:
        SystemExit: If folders or lists are missing, or there are too few images for the ratio.
    """
    samples = {}
    for split, names in _names_of_splits(root, layout, choice, log).items():
        indexes = index_folders(root, layout, split)
        source = f'listed in {layout.list_dir}/{split}.txt'  # names of folders have their images
        samples[split] = _pair_names(names, indexes, layout.ann_word, log, source)
    return drop_shared(samples, root, log)
