"""What to do about missing images."""

import os
from collections.abc import Sequence
from pathlib import Path

from .dataset_findings import TOOL
from .file_spelling import find_spellings
from .image_files import FoundImages, find_elsewhere


def _missing_remedy(names: Sequence[str], found: FoundImages | None) -> str | None:
    """What to do about missing images, None for the usual advice."""
    if found is None:
        if any('\\' in name for name in names):
            return r'write file_name with / instead of \, also on Windows'
        return None
    if found.keeps_folders:
        return (
            f'{found.num_found:,} of them are in {found.folder}: pass --image-dir {found.folder}, '
            'or let data_root and data_prefix=dict(img=...) of the config lead there'
        )
    name = os.path.basename(names[0])
    return (
        f'{found.num_found:,} of them are in {found.folder}, without the folders of file_name: '
        f'write {name} instead of {names[0]} there, or move the files'
    )


def explain_missing(image_root: str | Path, missing: Sequence[str]) -> str | None:
    """Say what to do about missing images; their own folder is searched before its neighbours.

    Args:
        image_root: Folder in which they are missing.
        missing: Their names, at least one.

    Returns:
        A clause, None for the usual advice.
    """
    spellings = find_spellings(image_root, missing)
    for name, real in spellings.items():
        return (
            f'{len(spellings):,} of them are there, but spelt otherwise (upper or lower case, '
            f'Unicode form), such as {real!a} for {name!a}: name files and file_name alike; '
            f'{TOOL} takes the names of the files'
        )
    return _missing_remedy(missing, find_elsewhere(image_root, missing))
