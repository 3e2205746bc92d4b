"""Which image files are there, and where missing ones may be."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..file_lists import is_file, is_folder


class FoundImages(NamedTuple):
    """Where missing images lie.

    Attributes:
        folder: The folder that was found.
        num_found: How many of the missing images lie there.
        keeps_folders: Whether they lie there under their whole ``file_name``, so that another
            image folder is enough; else only the last part of the names was found.
    """

    folder: str
    num_found: int
    keeps_folders: bool


def _list_files(folder: str) -> set[str]:
    """Names of the files of a folder, none if it cannot be read or there can be no such folder."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            return {entry.name for entry in entries if is_file(entry)}
    except (OSError, ValueError):
        return set()


def find_existing(image_root: str | Path, file_names: Sequence[str]) -> np.ndarray:
    """Look which files are there; every folder is listed once, which is quick for many files.

    Args:
        image_root: Folder that the names start from.
        file_names: N paths.

    Returns:
        (N,) bool.
    """
    folders: dict[str, set[str]] = {}
    found = np.zeros(len(file_names), bool)
    for row, file_name in enumerate(file_names):
        folder, name = os.path.split(os.path.join(image_root, file_name))
        if folder not in folders:
            folders[folder] = _list_files(folder)
        found[row] = name in folders[folder]
    return found


def _real_path(path: str) -> str:
    """A path without links; one that can name no file stays as it is."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def find_outside(
    image_root: str | Path | None, file_names: Sequence[str], data_root: str | Path | None = None
) -> np.ndarray:
    """Find names that lead out of the data, by ``..`` or from the root of the file system.

    Links below the folders are not followed: whoever puts one into the data knows where it leads.
    Where a link leads to the folders themselves, names of what it leads to are inside, too.

    Args:
        image_root: Folder that the names start from, None if it is not known.
        file_names: N paths.
        data_root: Folder of all data; the image folder if that does not lie in it.

    Returns:
        (N,) bool.
    """
    start = os.path.abspath(image_root or '')
    root = os.path.abspath(data_root or start)
    inside = os.path.join(root, '')
    if not os.path.join(start, '').startswith(inside):
        inside = os.path.join(start, '')
    paths = (os.path.normpath(os.path.join(start, name)) for name in file_names)
    found = [not os.path.join(path, '').startswith(inside) for path in paths]
    real = os.path.join(os.path.realpath(inside), '')
    found = [
        is_outside and not os.path.join(_real_path(os.path.join(start, name)), '').startswith(real)
        for is_outside, name in zip(found, file_names, strict=True)
    ]
    if image_root is None:
        found = [
            is_outside or os.path.isabs(name)
            for is_outside, name in zip(found, file_names, strict=True)
        ]
    return np.array(found, bool)


def _subfolders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders below a folder, those of the first level first, without hidden ones."""
    if depth == 0:
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if is_folder(e) and e.name[0] != '.')
    except OSError:
        return
    yield from (folder / name for name in names)
    for name in names:
        yield from _subfolders(folder / name, depth - 1)


def _nearby_folders(image_root: Path, most: int = 500) -> list[Path]:
    """Folders to search: two levels below the image folder, its parent and its neighbours."""
    start = next(path for path in (image_root, *image_root.parents) if os.path.isdir(path))
    beside = chain([start.parent], _subfolders(start.parent, 1))
    return list(islice(chain([start], _subfolders(start, 2), beside), most))


def find_elsewhere(image_root: str | Path, missing: Sequence[str]) -> FoundImages | None:
    """Search the neighbourhood of the image folder for missing images, by the first of them.

    Args:
        image_root: Folder in which they are missing.
        missing: Their names, at least one.

    Returns:
        Where they are, None if the first one was not found.
    """
    folders = _nearby_folders(Path(os.path.abspath(image_root)))
    bare_names = [os.path.basename(name) for name in missing]
    for names in (list(missing), bare_names):
        for folder in folders:
            if os.path.isfile(folder / names[0]):  # an impossible name is no error there
                count = int(find_existing(folder, names).sum())
                return FoundImages(str(folder), count, names[0] == missing[0])
    return None
