"""Read checkpoints without running what somebody may have put into them.

A checkpoint is a pickle, and a pickle can call anything. Here only tensors, plain values and the
few harmless classes are created that MMEngine's checkpoints hold: NumPy's arrays and numbers, and
the history of the losses. Whoever trusts a file can say so: ``trust_checkpoints = True`` in the
config, or the environment variable :data:`TRUST_VARIABLE`.
"""

import codecs
import os
import pickle
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.utils import digit_version

from . import restricted_pickle
from .checksums import DamagedFileError, verify

TRUST_VARIABLE = 'MMDET_SALIENCE_TRUST_CHECKPOINTS'
HISTORY_STATISTICS = ('min', 'max', 'current', 'mean')

# From here on ``torch.serialization.safe_globals`` takes objects under a name.
FIRST_WITH_NAMES = '2.6.0'
MAX_REASON = 300

# What PyTorch allows by itself, but not yet in 2.1.
PLAIN_GLOBALS = {
    '_codecs.encode': codecs.encode,
    'builtins.bytearray': bytearray,
    'builtins.complex': complex,
    'builtins.set': set,
    'collections.Counter': Counter,
}

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


def history_statistic(owner: type, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr``, by which a history names the functions of its class.

    Args:
        owner: The class.
        name: Name of the function.

    Returns:
        The function.

    Raises:
        pickle.UnpicklingError: It is anything else.
    """
    if owner is not HistoryBuffer or name not in HISTORY_STATISTICS:
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner}, {name!r}) was not allowed')
    found: Callable[..., Any] = getattr(HistoryBuffer, name)
    return found


def allowed_globals() -> dict[str, Any]:
    """What checkpoints may name beyond tensors and plain values, by "module.name".

    NumPy 1 and 2 keep the same functions in two modules, and a file tells who wrote it.
    """
    array, scalar = np.array([0.0]).__reduce__()[0], np.float64(0.0).__reduce__()[0]
    names: dict[str, Any] = {
        'builtins.getattr': history_statistic,
        'builtins.slice': slice,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
    }
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        names[f'{module}._reconstruct'] = array
        names[f'{module}.scalar'] = scalar
    for code in '?bBhHiIlLqQefdFDSUO':
        kind = type(np.dtype(code))  # numpy.dtype itself before NumPy 1.20
        names[f'{kind.__module__}.{kind.__qualname__}'] = kind
    return names


def has_named_globals() -> bool:
    """Whether PyTorch's own safe loading can be told what to allow."""
    return bool(digit_version(torch.__version__) >= digit_version(FIRST_WITH_NAMES))


def holds_program(path: Path) -> bool:
    """Whether a file holds a TorchScript program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


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
    from torch._weights_only_unpickler import _get_allowed_globals

    if tarfile.is_tarfile(path) or holds_program(path):
        raise pickle.UnpicklingError('GLOBAL TorchScript or tar file')
    restricted_pickle.allow({**PLAIN_GLOBALS, **_get_allowed_globals(), **allowed_globals()})
    return torch.load(str(path), pickle_module=restricted_pickle, weights_only=False, **options)


def read_checked(path: Path, **options: Any) -> Any:
    """Read a file by the way that this PyTorch has.

    Args:
        path: The file.
        **options: Options of ``torch.load``.

    Returns:
        Its content.
    """
    if not has_named_globals():
        return read_restricted(path, **options)
    allowed: list[Any] = [(value, name) for name, value in allowed_globals().items()]
    with torch.serialization.safe_globals(allowed):
        return torch.load(str(path), weights_only=True, **options)


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
        return read_checked(path, **options)
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
    if isinstance(error, DamagedFileError):
        return f'{path} is damaged: {error}. Copy it again, or take an earlier checkpoint'
    text = ' '.join(str(error).split())
    reason = text.split('WeightsUnpickler error: ')[-1].split('. ')[0][:MAX_REASON]
    refused = re.search(r'GLOBAL ([\w.]+|getattr\(.*?\))', str(error))
    if refused or (isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path)):
        return (
            f'{path} holds more than weights and plain values ({refused[1] if refused else reason})'
            ', and to load that could run code. If you trust whoever made the file, set '
            'trust_checkpoints=True in the config (--cfg-options trust_checkpoints=True) or '
            f'{TRUST_VARIABLE}=1 in the environment'
        )
    size = path.stat().st_size
    detail = f'damaged or something else ({type(error).__name__}: {reason})'
    return f'{path} cannot be read as a checkpoint: {size} bytes, {detail if size else "empty"}'
