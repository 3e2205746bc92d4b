"""What a checkpoint may hold beside numbers, texts and containers, and how it is made.

A pickle names functions and gives them any arguments. The ones here look at the arguments first:
NumPy and PyTorch believe them, and a wrong size, type or state makes them read foreign memory.
"""

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import Tensor, nn

from .pickled_arrays import (
    PickledArray,
    PickledDtype,
    finish_array,
    finish_dtype,
    make_array,
    make_dtype,
    make_scalar,
    refuse,
    require_counts,
)

HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
HISTORY_STATISTICS = ('min', 'max', 'current', 'mean')
HISTORY_FIELDS = {'max_length', '_log_history', '_count_history', 'statistics_methods'}

# A tensor may repeat its numbers (stride 0) up to this many elements.
MAX_REPEATED = 1 << 24

PLAIN_KEYS = (str, bytes, int, float, bool, type(None))


def require_plain_key(key: Any) -> None:
    """Make sure that hashing a key is harmless: of nested tuples it recurses without limit."""
    parts = key if type(key) is tuple else (key,)
    if not all(type(part) in PLAIN_KEYS for part in parts):
        refuse(f'key of type {type(key).__name__}')


def require_room(
    storage: Any, dtype: Any, offset: int, size: Sequence[int], stride: Sequence[int]
) -> None:
    """Make sure that a tensor lies in its storage.

    Args:
        storage: Where the numbers are.
        dtype: What they are.
        offset: Place of the first one.
        size: Shape.
        stride: Distance of neighbours in each dimension.

    Raises:
        pickle.UnpicklingError: Part of it would be outside, or these are no numbers.
    """
    if not isinstance(storage, torch.storage.TypedStorage):
        refuse('tensor without storage')
    if not isinstance(dtype, torch.dtype) or str(dtype).startswith('torch.q'):
        refuse('tensor of no numbers')
    require_counts(offset, *size, *stride)
    count = storage._untyped_storage.nbytes() // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if prod(size) and (last >= count or prod(size) > max(count, MAX_REPEATED)):
        raise pickle.UnpicklingError(f'a tensor of shape {size!r:.80} is larger than its storage')


def make_tensor(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Stand in for PyTorch's ``_rebuild_tensor``.

    Args:
        storage: Where the numbers are.
        offset: Place of the first one.
        size: Shape.
        stride: Distance of neighbours in each dimension.

    Returns:
        The tensor.

    Raises:
        pickle.UnpicklingError: Part of it would be outside the storage.
    """
    require_room(storage, getattr(storage, 'dtype', None), offset, size, stride)
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def make_tensor_v2(
    storage: Any,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: bool,
    hooks: Any,
    metadata: Any = None,
) -> Tensor:
    """Stand in for PyTorch's ``_rebuild_tensor_v2``; hooks and metadata have to be empty."""
    if hooks or metadata:
        refuse('tensor with hooks')
    return make_tensor(storage, offset, size, stride).requires_grad_(requires_grad is True)


def make_tensor_v3(
    storage: Any,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: bool,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    """Stand in for ``_rebuild_tensor_v3``, of types without a storage of their own (float8)."""
    if hooks or metadata:
        refuse('tensor with hooks')
    require_room(storage, dtype, offset, size, stride)
    numbers = storage._untyped_storage
    tensor = torch.empty(0, dtype=dtype, device=numbers.device).set_(numbers, offset, size, stride)
    return tensor.requires_grad_(requires_grad is True)


def make_parameter(data: Any, requires_grad: bool, hooks: Any) -> nn.Parameter:
    """Stand in for PyTorch's ``_rebuild_parameter``; hooks have to be empty."""
    if hooks or not isinstance(data, Tensor):
        refuse('parameter with hooks')
    return nn.Parameter(data, requires_grad is True)


def make_size(numbers: Sequence[int] = ()) -> torch.Size:
    """Stand in for ``torch.Size``."""
    require_counts(*numbers)
    return torch.Size(numbers)


def make_device(kind: str, index: int | None = None) -> torch.device:
    """Stand in for ``torch.device``."""
    return torch.device(kind) if index is None else torch.device(kind, index)


def make_bytes(text: str = '', encoding: str = 'latin-1') -> bytes:
    """Stand in for ``_codecs.encode`` and ``bytes``, how older protocols write bytes."""
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
        refuse(f'_codecs.encode to {encoding!r:.40}')
    return text.encode('latin-1')


def make_bytearray(text: str | bytes = b'', encoding: str = 'latin-1') -> bytearray:
    """Stand in for ``bytearray``."""
    content = make_bytes(text, encoding) if isinstance(text, str) else text
    if type(content) is not bytes:
        refuse('bytearray of a size')
    return bytearray(content)


def make_ordered(items: Sequence[tuple[Any, Any]] = ()) -> OrderedDict:
    """Stand in for ``OrderedDict``."""
    for key, _ in items:
        require_plain_key(key)
    return OrderedDict(items)


def finish_ordered(ordered: OrderedDict, state: Any) -> OrderedDict:
    """Give a state dict its versions (``_metadata``)."""
    if type(state) is not dict or not state.keys() <= {'_metadata'}:
        refuse('attribute of collections.OrderedDict')
    ordered.__dict__.update(state)
    return ordered


def make_counter(counts: dict | None = None) -> Counter:
    """Stand in for ``Counter``."""
    if counts is not None and type(counts) is not dict:
        refuse('collections.Counter of no dict')
    return Counter(counts)


def make_set(items: list = []) -> set:  # noqa: B006 (never changed)
    """Stand in for ``set``."""
    if type(items) is not list:
        refuse('set of no list')
    for item in items:
        require_plain_key(item)
    return set(items)


def make_frozen_set(items: list = []) -> frozenset:  # noqa: B006 (never changed)
    """Stand in for ``frozenset``."""
    return frozenset(make_set(items))


def make_complex(real: float = 0.0, imaginary: float = 0.0) -> complex:
    """Stand in for ``complex``."""
    return complex(real, imaginary)


def make_slice(*limits: int | None) -> slice:
    """Stand in for ``slice``."""
    if not all(limit is None or type(limit) is int for limit in limits):
        refuse('slice of no numbers')
    return slice(*limits)


def history_statistic(owner: type, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr``, by which a history names the functions of its class."""
    if owner is not HistoryBuffer or name not in HISTORY_STATISTICS:
        refuse(f'getattr({owner}, {name!r})')
    found: Callable[..., Any] = getattr(HistoryBuffer, name)
    return found


def finish_history(history: HistoryBuffer, state: Any) -> HistoryBuffer:
    """Give a history its numbers.

    Args:
        history: The history.
        state: Its attributes; its functions, which MMEngine shares among all histories, have to be
            those of the class.

    Returns:
        The history.

    Raises:
        pickle.UnpicklingError: It is not the state of a history.
    """
    if type(state) is not dict or not state.keys() <= HISTORY_FIELDS:
        refuse('state of HistoryBuffer')
    functions = state.get('statistics_methods', {})
    own = {name: getattr(HistoryBuffer, name) for name in HISTORY_STATISTICS}
    if type(functions) is not dict or not functions.items() <= own.items():
        refuse('function of HistoryBuffer')
    for field in ('_log_history', '_count_history'):
        numbers = state.get(field)
        if type(numbers) is not np.ndarray or numbers.ndim != 1 or numbers.dtype.kind not in 'biuf':
            refuse('numbers of HistoryBuffer')
    history.__setstate__(dict(state))
    return history


# Functions that a pickle may call, by the names that it knows them by.
CALLED: dict[str, Callable[..., Any]] = {
    '_codecs.encode': make_bytes,
    'builtins.bytearray': make_bytearray,
    'builtins.bytes': make_bytes,
    'builtins.complex': make_complex,
    'builtins.frozenset': make_frozen_set,
    'builtins.getattr': history_statistic,
    'builtins.set': make_set,
    'builtins.slice': make_slice,
    'collections.Counter': make_counter,
    'collections.OrderedDict': make_ordered,
    'numpy.dtype': make_dtype,
    'torch.Size': make_size,
    'torch.device': make_device,
    'torch._utils._rebuild_parameter': make_parameter,
    'torch._utils._rebuild_tensor': make_tensor,
    'torch._utils._rebuild_tensor_v2': make_tensor_v2,
    'torch._utils._rebuild_tensor_v3': make_tensor_v3,
}
# NumPy 1 and 2 keep the same functions in two modules, and a file tells who wrote it.
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    CALLED.update({f'{_module}._reconstruct': make_array, f'{_module}.scalar': make_scalar})

FUNCTIONS = tuple(CALLED.values())

# All that a pickle may name.
ALLOWED: dict[str, Any] = {
    **CALLED,
    HISTORY: HistoryBuffer,
    **{f'{HISTORY}.{name}': getattr(HistoryBuffer, name) for name in HISTORY_STATISTICS},
    'numpy.ndarray': np.ndarray,
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
}

# How objects take their state.
BUILDERS: dict[type, Callable[[Any, Any], Any]] = {
    HistoryBuffer: finish_history,
    OrderedDict: finish_ordered,
    PickledArray: finish_array,
    PickledDtype: finish_dtype,
}
