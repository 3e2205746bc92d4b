"""NumPy's arrays and numbers in a checkpoint, made without NumPy's own functions for pickles.

Those take shape, type and state as they are given, and read foreign memory where they are wrong.
"""

import pickle
import re
from math import prod
from typing import Any, Literal, NoReturn

import numpy as np

# Numbers, and texts of a fixed length: no objects, no structures.
PLAIN_DTYPE = re.compile(r'\?|b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,7}')
NO_DETAILS = (None, None, None)  # of a dtype's state: parent, names, fields


def refuse(what: str) -> NoReturn:
    """Refuse to create something; the message is in PyTorch's words."""
    raise pickle.UnpicklingError(f'GLOBAL {what} was not allowed')


def require_counts(*numbers: Any) -> None:
    """Make sure that all are whole numbers from 0 on."""
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError(f'sizes {numbers!r:.80} are no sizes')


class PickledDtype:
    """A dtype before its byte order is known.

    Args:
        code: As for ``numpy.dtype``.
        align: Not used by plain types.
        copy: Not used by plain types.
    """

    def __init__(self, code: str, align: Any = False, copy: Any = False) -> None:
        if type(code) is not str or not PLAIN_DTYPE.fullmatch(code):
            refuse(f'numpy.dtype({code!r:.40})')
        self.dtype = np.dtype(code)


class PickledArray:
    """An array before its state is known."""


def make_dtype(code: str, align: Any = False, copy: Any = False) -> PickledDtype:
    """Stand in for ``numpy.dtype``."""
    return PickledDtype(code, align, copy)


def finish_dtype(pickled: PickledDtype, state: Any) -> np.dtype:
    """Give a dtype its byte order.

    The rest of the state follows from the type. NumPy would apply it all the same, and then take
    bytes for objects.

    Args:
        pickled: The dtype.
        state: Version, byte order, details of structures, size, alignment and flags.

    Returns:
        The dtype.

    Raises:
        pickle.UnpicklingError: The state is not that of a plain type.
    """
    if type(state) is not tuple or len(state) != 8 or state[1] not in ('<', '>', '|', '='):
        refuse('state of numpy.dtype')
    size = pickled.dtype.itemsize
    flags = 8 if pickled.dtype.kind == 'U' else 0
    if state[2:5] != NO_DETAILS or state[5] not in (-1, size) or state[7] not in (0, flags):
        refuse('state of numpy.dtype')
    return pickled.dtype.newbyteorder(state[1])


def as_dtype(found: Any) -> np.dtype:
    """Take a dtype out of a pickle."""
    dtype = found.dtype if type(found) is PickledDtype else found
    if not isinstance(dtype, np.dtype):
        refuse('array without numpy.dtype')
    return dtype


def make_array(kind: Any, shape: Any, code: Any) -> PickledArray:
    """Stand in for NumPy's ``_reconstruct``, which makes an empty array."""
    if kind is not np.ndarray:
        refuse('numpy.ndarray of another class')
    return PickledArray()


def finish_array(_: PickledArray, state: Any) -> np.ndarray:
    """Give an array its content.

    Args:
        _: The array.
        state: Version, shape, dtype, whether it is in Fortran's order, bytes.

    Returns:
        The array.

    Raises:
        ValueError: Shape and bytes do not fit.
        pickle.UnpicklingError: It is not an array of plain values.
    """
    _, shape, dtype, is_fortran, content = state
    require_counts(*shape)
    if type(content) is not bytes:
        refuse('numpy.ndarray of objects')
    if prod(shape) * as_dtype(dtype).itemsize != len(content):
        raise pickle.UnpicklingError(f'an array of shape {shape!r:.80} has {len(content)} bytes')
    order: Literal['C', 'F'] = 'F' if is_fortran else 'C'
    return np.ndarray(tuple(shape), as_dtype(dtype), bytearray(content), order=order).copy(order)


def make_scalar(dtype: Any, content: bytes) -> Any:
    """Stand in for NumPy's ``scalar``."""
    plain = as_dtype(dtype)
    if type(content) is not bytes or len(content) != plain.itemsize:
        refuse('numpy scalar of another size')
    return np.frombuffer(content, plain)[0] if content else plain.type()
