"""Read checkpoints without running what somebody may have put into them.

A checkpoint is a pickle, and a pickle can call anything. Here only tensors, plain values and the
few harmless classes are created that MMEngine's checkpoints hold: NumPy's arrays of numbers and
texts, and the history of the losses (see ``pickled_values.py``). Whoever trusts a file can say so:
``trust_checkpoints = True`` in the config, or the environment variable :data:`TRUST_VARIABLE`.
"""

import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from .checksums import DamagedFileError, verify
from .pickled_arrays import refuse
from .restricted_pickle import pickle_module

TRUST_VARIABLE = 'MMDET_SALIENCE_TRUST_CHECKPOINTS'
FORCE_VARIABLE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
MAX_REASON = 300

# Start of PyTorch's zip format, and records in it.
ZIP_START = b'PK\x03\x04'
PROGRAM = 'constants.pkl'
STORAGES = 'data/'

_trust = ContextVar('trust', default=False)  # what the innermost trusting() of the thread says


class CheckpointFileError(ValueError):
    """A file that is no checkpoint, is damaged, or holds what is not created without trust."""


def trusted() -> bool:
    """Whether the user has said that checkpoints may run code."""
    return _trust.get() or os.environ.get(TRUST_VARIABLE, '').lower() in ('1', 'true', 'yes')


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Trust the checkpoints that this thread reads in a block, or not.

    Args:
        trust: What the user says; the environment variable can only add trust.

    Yields:
        Nothing.
    """
    token = _trust.set(trust)
    try:
        yield
    finally:
        _trust.reset(token)


def storage_sizes(path: Path) -> dict[str, int]:
    """Look into a checkpoint in zip format before it is read.

    Two readers see the file, Python's here and PyTorch's, and both have to find the same.

    Args:
        path: The file.

    Returns:
        Bytes of each storage by its key.

    Raises:
        pickle.UnpicklingError: It is not as PyTorch writes it, or holds a TorchScript program.
        zipfile.BadZipFile: It is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename.partition('/')[2] for entry in entries]
    if PROGRAM in names:
        refuse('TorchScript')
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise pickle.UnpicklingError('it is compressed')
    records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    if sorted(records) != sorted(set(names)) or len(records) != len(names):
        raise pickle.UnpicklingError('its table of contents is ambiguous')
    return {
        name.removeprefix(STORAGES): entry.file_size
        for name, entry in zip(names, entries, strict=True)
        if name.startswith(STORAGES)
    }


def read_restricted(path: Path, **options: Any) -> Any:
    """Read a file with the restricted unpickler.

    Args:
        path: The file.
        **options: Options of ``torch.load``.

    Returns:
        Its content.

    Raises:
        pickle.UnpicklingError: It holds what is not allowed, or is in a format that PyTorch reads
            in another way.
    """
    with path.open('rb') as file:  # as PyTorch tells the formats apart
        is_zip = file.read(len(ZIP_START)) == ZIP_START
    if not is_zip and tarfile.is_tarfile(path):
        refuse('tar file')
    sizes = storage_sizes(path) if is_zip else None
    if os.environ.get(FORCE_VARIABLE, '').lower() in ('1', 'y', 'yes', 'true'):
        raise CheckpointFileError(
            f'{path} is not read: {FORCE_VARIABLE} lets PyTorch refuse every other way of reading, '
            "and checkpoints are read in a stricter one than PyTorch's here; unset it"
        )
    module = pickle_module(sizes, limit=path.stat().st_size)
    return torch.load(str(path), pickle_module=module, weights_only=False, **options)


def load_safely(path: str | Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Read a checkpoint; nothing in it is run, unless the user trusts it.

    Its checksums are compared before, which reads the whole file.

    Args:
        path: The file.
        map_location: As for ``torch.load``.
        mmap: Whether tensors stay in the file until they are used, where the format allows.

    Returns:
        Its content.

    Raises:
        OSError: There is no such file, or it may not be read.
        CheckpointFileError: It is no checkpoint, is damaged, or holds what is not created without
            trust.
    """
    path = Path(path).expanduser()
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f'the link {path} leads to no checkpoint; check where it points')
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}; check the path')
    with path.open('rb'):  # what the system says about it, such as missing rights
        pass
    try:
        verify(path)
        options = dict(map_location=map_location, mmap=mmap and zipfile.is_zipfile(path))
        if trusted():
            return torch.load(str(path), weights_only=False, **options)
        return read_restricted(path, **options)
    except CheckpointFileError:
        raise
    except Exception as error:  # bytes that are no checkpoint may end in any of them
        raise CheckpointFileError(describe_failure(path, error)) from error


def describe_failure(path: Path, error: Exception) -> str:
    """Say why a file cannot be read, and what to do.

    Args:
        path: The file.
        error: What went wrong.

    Returns:
        The message.
    """
    text = ''.join(filter(str.isprintable, ' '.join(str(error).split())))  # no terminal's commands
    if isinstance(error, DamagedFileError):
        return f'{path} is damaged: {text}. Copy it again, or take an earlier checkpoint'
    reason = text.split('. ')[0][:MAX_REASON]
    refused = re.search('GLOBAL (.+) was not allowed', text)
    if refused:
        return (
            f'{path} holds more than weights and plain values ({refused[1][:MAX_REASON]}), and '
            'to load that could run code. If you trust whoever made the file, set '
            'trust_checkpoints=True in the config (--cfg-options trust_checkpoints=True) or '
            f'{TRUST_VARIABLE}=1 in the environment'
        )
    size = path.stat().st_size
    detail = f'damaged or something else ({type(error).__name__}: {reason})'
    return f'{path} cannot be read as a checkpoint: {size} bytes, {detail if size else "empty"}'
