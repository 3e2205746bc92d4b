"""A list of images that were skipped, which all processes of a run write to."""

import json
import os
from typing import NamedTuple


class Fault(NamedTuple):
    """An image that could not be used.

    Attributes:
        split: ``'train'``, ``'val'`` or ``'test'``.
        path: Its file.
        reason: What is wrong with it.
    """

    split: str
    path: str
    reason: str


class FaultRecord:
    """A file with a line of JSON for each skipped image: split, path and reason.

    Workers of a data loader are processes of their own, so memory cannot hold the list. A line is
    appended by one system call. Two processes that meet an image at the same moment may both write
    it; readers count it once.

    Args:
        path: The file; made with the first fault.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._written: set[tuple[str, str]] = set()  # by this process

    def add(self, fault: Fault) -> bool:
        """Note a fault, unless its image is listed.

        Args:
            fault: The fault.

        Returns:
            Whether this process had not noted the image before.
        """
        key = (fault.split, fault.path)
        if key in self._written:
            return False
        self._written.add(key)
        if not any((known.split, known.path) == key for known in self.read()):
            line = f'{json.dumps(fault)}\n'.encode()
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        return True

    def read(self, split: str | None = None) -> list[Fault]:
        """Read the list.

        Args:
            split: Take faults of this split only.

        Returns:
            A fault for each image of each split, the oldest first.
        """
        try:
            with open(self.path, encoding='utf-8') as file:
                lines = file.read().split('\n')[:-1]  # the last one may still be in the making
        except FileNotFoundError:
            return []
        found: dict[tuple[str, str], Fault] = {}
        for fault in (Fault(*json.loads(line)) for line in lines):
            found.setdefault((fault.split, fault.path), fault)
        return [fault for fault in found.values() if split in (None, fault.split)]
