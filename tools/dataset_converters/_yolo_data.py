"""Classes and images of a YOLO data set, from ``data.yaml`` or folders, for the converter."""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from _split_lists import (
    IMAGE_SUFFIXES,
    SPLITS,
    Sample,
    SplitChoice,
    drop_shared,
    find_splits,
    list_files,
    read_list,
    relative_name,
    unique_names,
)

from mmdet_salience.datasets.conversion.data_problems import ProblemLog


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the file that describes the data set.

    Args:
        path: ``data.yaml``.

    Returns:
        Its content.

    Raises:
        SystemExit: If it is missing or broken.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8-sig'))
    except Exception as error:  # dates and numbers raise errors of their own
        raise SystemExit(
            f'error: cannot read {path} ({error}); name another file by --data-yaml, or give '
            '--classes and --image-dir'
        ) from error
    if not isinstance(content, dict):
        raise SystemExit(f'error: {path}: expected keys such as names and train')
    return content


def class_names(content: Mapping[str, Any], where: Path) -> dict[int, str]:
    """Read the names of the classes.

    Args:
        content: Content of ``data.yaml``.
        where: The file, for messages.

    Returns:
        Name of each class number, in the order of the numbers.

    Raises:
        SystemExit: If ``names`` is missing, malformed, holds a name twice or does not fit ``nc``.
    """
    names = content.get('names')
    named = dict(enumerate(names)) if isinstance(names, list) else names
    try:
        numbered = {int(number): str(name) for number, name in named.items()}
    except (AttributeError, OverflowError, TypeError, ValueError):
        numbered = {}
    if not numbered or len(set(numbered.values())) < len(numbered):
        raise SystemExit(f'error: {where}: names must hold different names of classes')
    if content.get('nc', len(numbered)) != len(numbered):
        raise SystemExit(f'error: {where}: nc is {content["nc"]}, but names has {len(numbered)}')
    return dict(sorted(numbered.items()))


def resolve_entry(entry: str, folders: Sequence[Path]) -> Path | None:
    """Find a file or folder.

    Args:
        entry: Its path, absolute or relative to one of the folders.
        folders: Folders to look in, the first one first.

    Returns:
        The path, None if it is nowhere. ``../X`` stands for ``X`` where there is no such folder
        above: some exports write it so.
    """
    tails = [entry, entry[3:]] if entry.startswith('../') else [entry]
    paths = [folder / tail for folder in folders for tail in tails]
    return next((path for path in paths if os.path.exists(path)), None)


def list_images(entry: str, folders: Sequence[Path], where: str, log: ProblemLog) -> list[Path]:
    """List the images of one entry of a split.

    Args:
        entry: A folder, or a text file with an image a line.
        folders: Folders that it may be relative to.
        where: Where the entry stands, for messages.
        log: Log of problems, to which missing images are added.

    Returns:
        The images.

    Raises:
        SystemExit: If there is no such folder or file.
    """
    path = resolve_entry(entry, folders)
    if path is None:
        looked = ', '.join(dict.fromkeys(map(str, folders)))
        raise SystemExit(
            f'error: {where}: there is no {entry} in {looked}; mend the path, or name the splits '
            'that are there by --splits'
        )
    if path.is_dir():
        return list_files(path, IMAGE_SUFFIXES)
    images = []
    for name in read_list(path):
        image = resolve_entry(name, (path.parent, *folders))
        if image is None:
            log.add('missing images', name, f'listed in {path.name}')
        else:
            images.append(image)
    return images


def yaml_images(
    content: Mapping[str, Any], where: Path, args: argparse.Namespace, log: ProblemLog
) -> dict[str, list[Path]]:
    """List the images that ``data.yaml`` names.

    Args:
        content: Its content.
        where: The file.
        args: The command line.
        log: Log of problems, to which missing images are added.

    Returns:
        Images of each split.

    Raises:
        SystemExit: If a split, its folder or its list is missing.
    """
    folders = [where.parent / str(content.get('path') or ''), where.parent, args.data_root]
    splits = args.splits or [split for split in SPLITS if content.get(split)]
    missing = [split for split in splits if not content.get(split)]
    if missing or not splits:
        raise SystemExit(f'error: {where} has no key {" or ".join(missing or SPLITS)}')
    images = {}
    for split in splits:
        entries = content[split] if isinstance(content[split], list) else [content[split]]
        found = [list_images(str(e), folders, f'{where}: {split}', log) for e in entries]
        images[split] = [image for part in found for image in part]
    return images


def folder_images(args: argparse.Namespace) -> dict[str, list[Path]]:
    """List the images in the folders of the splits.

    Args:
        args: The command line, with ``image_dir``.

    Returns:
        Images of each split.

    Raises:
        SystemExit: If the folder of a split is missing.
    """
    remedy = 'name the folder of images by --image-dir and the splits by --splits'
    template = str(args.data_root / args.image_dir)
    folders = find_splits(template, SplitChoice(args.splits), remedy)
    return {split: list_files(folder, IMAGE_SUFFIXES) for split, folder in folders.items()}


def label_file(image: Path) -> Path | None:
    """Find an image's label file.

    Args:
        image: The image.

    Returns:
        ``X/labels/Y.txt`` for ``X/images/Y.jpg``, else the text file next to the image, else None;
        it may be a link that leads nowhere.
    """
    beside = image.with_suffix('.txt')
    folders = list(beside.parts)
    for place in reversed(range(len(folders) - 1)):
        if folders[place] == 'images':
            folders[place] = 'labels'
            break
    return next((path for path in (Path(*folders), beside) if os.path.lexists(path)), None)


def collect_samples(
    images: Mapping[str, Iterable[Path]], root: Path, log: ProblemLog
) -> dict[str, list[Sample]]:
    """Pair images with their label files.

    Args:
        images: Images of each split.
        root: The data root.
        log: Log of problems, to which splits without any label are added.

    Returns:
        Samples of each split, no image twice.
    """
    samples = {}
    for split, paths in images.items():
        named = {relative_name(path, root): path for path in paths}
        names = unique_names([relative_name(path, root) for path in paths], split, log)
        samples[split] = [Sample(named[name], label_file(named[name])) for name in names]
        if names and not any(sample.annotation for sample in samples[split]):
            detail = f'none for {names[0]} and the others; labels of X/images/ belong in X/labels/'
            log.add('splits without any label file', split, detail)
    return drop_shared(samples, root, log)
