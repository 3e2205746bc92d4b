"""Tensors made of Python numbers, once per device."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

# PyTorch 2.1 cannot tell; there the graph breaks where constants are made.
is_compiling = getattr(torch.compiler, 'is_compiling', bool)


def constant(values: Any, device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Tensor of nested tuples of numbers; the same tensor when asked again, so never change it.

    Making one blocks until a GPU has taken the numbers. Everything that the model makes follows
    from image sizes, so the next image of a size needs none. While a model is compiled or exported,
    tensors are stand-ins and belong to that trace alone: then a new one is made.

    Args:
        values: A number, or nested tuples of numbers.
        device: Where the tensor is needed.
        dtype: Type of the elements.

    Returns:
        The tensor, usable in training even if it was first needed in inference mode.
    """
    if is_compiling() or _get_current_dispatch_mode() is not None:
        return torch.tensor(values, device=device, dtype=dtype)
    return cached(values, device, dtype)


@lru_cache(maxsize=4096)
def cached(values: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Make a tensor that is kept; arguments as for :func:`constant`."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)
