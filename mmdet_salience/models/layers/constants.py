"""Tensors made of Python numbers, once per device."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=4096)
def constant(values: Any, device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Tensor of nested tuples of numbers; the same tensor when asked again, so never change it.

    Making one blocks until a GPU has taken the numbers. Everything that the model makes follows
    from image sizes, so the next image of a size needs none.

    Args:
        values: A number, or nested tuples of numbers.
        device: Where the tensor is needed.
        dtype: Type of the elements.

    Returns:
        The tensor, usable in training even if it was first needed in inference mode.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)
