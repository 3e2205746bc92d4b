"""A folder of checkpoints belongs to one training at a time.

The lock is the operating system's: it ends with the process, however that ends, and workers do not
inherit it. It lies on a small file that says who holds it. A file that a killed training has left
is therefore no lock, even if its process id is in use again. POSIX ends the lock, too, when its
process opens and closes ``training.lock`` once more, as code that copies the work folder would do.
"""

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from mmengine.logging import print_log

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = 'training.lock'
TAKEN = (errno.EACCES, errno.EAGAIN)
MAX_TEXT = 200

# Another start that only looks whether a folder is in use holds the lock for an instant.
ATTEMPTS = 5
PAUSE = 0.05  # seconds

# Locks of this process by folder, with its id: a forked process has none of them.
_held: dict[Path, tuple[int, IO[str]]] = {}


class FolderInUseError(ValueError):
    """Another training has its checkpoints in a folder."""


def holds(folder: Path) -> bool:
    """Whether this process has the lock of a folder."""
    return _held.get(folder.resolve(), (0,))[0] == os.getpid()


def open_locked(path: Path) -> IO[str] | None:
    """Open and lock a file.

    Args:
        path: The file, made if needed.

    Returns:
        The file; None if another process has the lock.

    Raises:
        OSError: The file cannot be opened, or its file system has no locks.
    """
    while True:
        file = path.open('a+', errors='replace')
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in TAKEN:
                return None
            raise
        with suppress(FileNotFoundError):  # its holder removes it in the end
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def claim(folder: Path) -> None:
    """Take the lock of a folder for this process; once is enough.

    Args:
        folder: Folder of checkpoints, which is there.

    Raises:
        FolderInUseError: Another process has it.
    """
    if fcntl is None or holds(folder):
        return
    path = folder / LOCK_NAME
    try:
        for attempt in range(ATTEMPTS):
            time.sleep(PAUSE * (attempt > 0))
            file = open_locked(path)
            if file is not None:
                break
        else:
            raise FolderInUseError(describe_holder(path))
    except OSError as error:
        print_log(
            f'{path} cannot be locked ({error.strerror}): see to it that no other training has its '
            'checkpoints there.',
            logger='current',
            level=logging.WARNING,
        )
        return
    now = time.strftime('%Y-%m-%d %H:%M:%S')
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}, since {now}\n')
    file.flush()
    _held[folder.resolve()] = (os.getpid(), file)


def describe_holder(path: Path) -> str:
    """Say who holds a lock, and what to do.

    Args:
        path: The locked file.

    Returns:
        The message.
    """
    text = ''
    with suppress(OSError):
        text = ' '.join(path.read_text(errors='replace').split())[:MAX_TEXT]
    return (
        f'{path.parent} is the work folder of a training that runs: '
        f"{text or 'a process that has just begun'}. Two would remove each other's checkpoints; "
        'wait for it, stop it, or give another --work-dir'
    )


def release(folder: Path) -> None:
    """Give back the lock of a folder, if this process has it.

    Args:
        folder: The folder.
    """
    if holds(folder):
        _, file = _held.pop(folder.resolve())
        with suppress(OSError):
            (folder / LOCK_NAME).unlink(missing_ok=True)
        file.close()


def is_in_use(folder: Path) -> bool:
    """Whether another process has the lock of a folder.

    Args:
        folder: The folder.

    Returns:
        False where that cannot be told.
    """
    path = folder / LOCK_NAME
    if fcntl is None or holds(folder) or not path.is_file():
        return False
    with suppress(OSError):
        file = open_locked(path)
        if file is None:
            return True
        file.close()
    return False
