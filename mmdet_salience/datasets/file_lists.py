"""Files below folders; an entry that cannot be read costs only itself."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path


def is_file(entry: 'os.DirEntry[str]') -> bool:
    """Whether an entry of a folder is a file; a broken link is none, a link in a circle neither."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: 'os.DirEntry[str]') -> bool:
    """Whether an entry of a folder is a folder, as for :func:`is_file`."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _warn_of_folder(error: OSError) -> None:
    """Say that a folder is left out."""
    reason = error.strerror or error
    warnings.warn(f'left out folder {error.filename}: {reason}', stacklevel=4)


def list_below(folder: str | Path, suffixes: Sequence[str]) -> list[Path]:
    """List the files below a folder; links to folders are not followed.

    Broken links are listed too, so that whoever reads the files can say what is wrong with one of
    them; pipes and the like are not. A folder that cannot be listed is left out with a warning.

    Args:
        folder: The folder.
        suffixes: Suffixes in lower case, with the dot; names may have them in upper case.

    Returns:
        The paths, sorted.
    """
    found = (
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=_warn_of_folder)
        for name in names
        if os.path.splitext(name)[1].lower() in suffixes
    )
    return sorted(path for path in found if os.path.isfile(path) or not os.path.exists(path))
