"""Files that are whole or not there, also after a crash or on a full disk."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

DRAFT_SUFFIX = '.writing'
BACKEND_NAME = 'durable_local'

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MEGABYTE = 1e6


class DiskFullError(OSError):
    """A file did not fit on its disk.

    Args:
        path: The file; nothing is left of it.
        needed: Bytes that it needs.
        intact: What is safe, for the message.
    """

    def __init__(self, path: Path, needed: int, intact: str = '') -> None:
        free = shutil.disk_usage(path.parent).free
        super().__init__(
            errno.ENOSPC,
            f'{path} could not be written, because the disk is full: it needs '
            f'{needed / MEGABYTE:.1f} MB, and {free / MEGABYTE:.1f} MB are free (or a quota is '
            f'used up). {intact}'.strip(),
        )
        self.path = path
        self.needed = needed

    def __str__(self) -> str:
        """The message, without the error number."""
        return str(self.strerror)


def draft_of(path: Path) -> Path:
    """Name of a file while it is being written, in the same folder."""
    return path.with_name(f'.{path.name}{DRAFT_SUFFIX}')


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file under another name, bring it to the disk, and only then give it its name.

    Args:
        path: The file; what was there before stays until the new one is complete.
        content: What to write.

    Raises:
        DiskFullError: There is not enough space.
        OSError: It cannot be written for another reason.
    """
    draft = draft_of(path)
    try:
        with draft.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFullError(path, len(content)) from error
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of files to the disk, where the system can do that.

    Args:
        folder: The folder.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_drafts(folder: Path) -> Iterator[Path]:
    """Remove what a killed run was writing.

    Args:
        folder: Folder of checkpoints.

    Yields:
        The removed files.
    """
    for draft in folder.glob(f'.*{DRAFT_SUFFIX}'):
        with suppress(OSError):
            draft.unlink()
            yield draft


@register_backend(BACKEND_NAME, force=True)
class DurableBackend(LocalBackend):
    """MMEngine's backend for local files, with :func:`write_durably` for bytes."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write a file; all or nothing.

        Args:
            obj: Its content.
            filepath: Its path; missing folders are made.

        Raises:
            DiskFullError: There is not enough space.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, obj)
