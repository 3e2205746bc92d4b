"""Files that are whole or not there, also after a crash or on a full disk."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend

from ..utils.checksums import seal

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DRAFT_SUFFIX = '.writing'
BACKEND_NAME = 'durable_local'

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MEGABYTE = 1e6


class NotWrittenError(OSError):
    """A file could not be written; nothing is left of the attempt.

    Args:
        path: The file.
        needed: Bytes that it needs.
        intact: What is safe, for the message.
        number: The system's error number.
    """

    def __init__(
        self, path: Path, needed: int, intact: str = '', number: int = errno.ENOSPC
    ) -> None:
        reason = describe_reason(path.parent, needed, number)
        super().__init__(number, f'{path} could not be written, because {reason}. {intact}'.strip())
        self.path = path
        self.needed = needed
        self.intact = intact

    def __reduce__(self) -> tuple[Any, ...]:
        """How another process makes it."""
        return type(self), (self.path, self.needed, self.intact, self.errno or 0)

    def __str__(self) -> str:
        """The message, without the error number."""
        return str(self.strerror)

    def with_intact(self, intact: str) -> 'NotWrittenError':
        """The same error with a sentence about what is safe."""
        return type(self)(self.path, self.needed, intact, self.errno or 0)


class DiskFullError(NotWrittenError):
    """A file is larger than its disk, a quota or a limit leaves room for."""


def describe_reason(folder: Path, needed: int, number: int) -> str:
    """Say why a file could not be written.

    Args:
        folder: Its folder.
        needed: Bytes that it needs.
        number: The system's error number.

    Returns:
        A clause without a full stop.
    """
    needs = f'it needs {needed / MEGABYTE:.1f} MB'
    if number == errno.EFBIG:
        return f'it is larger than files may be here: {needs}, and {describe_size_limit()}'
    if number == errno.EDQUOT:
        return f'your quota on its disk is used up: {needs}'
    if number != errno.ENOSPC:
        return f'the system says: {os.strerror(number)}'
    free = shutil.disk_usage(folder).free
    room = f'{needs}, and {free / MEGABYTE:.1f} MB are free'
    if free > needed:
        return f'the disk takes no more: {room}; a quota or its number of files may be used up'
    return f'the disk is full: {room}'


def describe_size_limit() -> str:
    """Say how large a file may be."""
    limit = -1 if resource is None else resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit < 0:  # which means unlimited
        return 'the file system takes no larger files'
    return f'the file-size limit of this process is {limit / MEGABYTE:.1f} MB (see ulimit -f)'


def draft_of(path: Path) -> Path:
    """Name of a file while it is being written, in the same folder."""
    return path.with_name(f'.{path.name}{DRAFT_SUFFIX}')


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file under another name, bring it to the disk, and only then give it its name.

    Checkpoints get a digest at their end, see :mod:`mmdet_salience.utils.checksums`.

    Args:
        path: The file; what was there before stays until the new one is complete.
        content: What to write.

    Raises:
        DiskFullError: There is not enough space.
        NotWrittenError: It cannot be written for another reason.
    """
    draft = draft_of(path)
    try:
        with draft.open('wb') as file:
            file.writelines(seal(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        kind = DiskFullError if error.errno in FULL else NotWrittenError
        raise kind(path, len(content), number=error.errno or 0) from error
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
