"""Files whose names differ from the annotated ones in case or Unicode normal form only."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path


def _fold(name: str) -> str:
    """A name without what file systems of some computers do not tell apart."""
    return unicodedata.normalize('NFC', unicodedata.normalize('NFC', name).casefold())


class _Folders:
    """Entries of folders by their folded names; each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, folder: str, name: str) -> str | None:
        """Name of the only entry of a folder that is spelt alike, the very name first."""
        if folder not in self._listed:
            entries: dict[str, list[str]] = {}
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            for entry in names:
                entries.setdefault(_fold(entry), []).append(entry)
            self._listed[folder] = entries
        alike = self._listed[folder].get(_fold(name), [])
        if name in alike:
            return name
        return alike[0] if len(alike) == 1 else None


def find_spellings(image_root: str | Path, missing: Sequence[str]) -> dict[str, str]:
    """Look for missing files, and their folders, under names that are spelt alike.

    Args:
        image_root: Folder that the names start from.
        missing: Names of files that are not there.

    Returns:
        The name on the disk of each that was found; where several are alike, none is.
    """
    folders, found = _Folders(), {}
    for file_name in missing:
        place, parts = '', Path(file_name).parts
        for part in parts:
            folder = os.path.join(image_root, place)
            is_step = part in (os.pardir, os.sep) or os.path.isabs(part)
            name = part if is_step else folders.find(folder, part)
            if name is None:
                break
            place = os.path.join(place, name)
        else:
            if os.path.isfile(os.path.join(image_root, place)):
                found[file_name] = Path(place).as_posix()
    return found
