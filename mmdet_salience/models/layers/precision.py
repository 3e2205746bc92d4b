"""Full precision for the few steps that need it under mixed precision.

``torch.autocast`` runs linear layers in float16 or bfloat16. Three kinds of steps suffer. Ranking:
bfloat16 has 8 significant bits, so thousands of tokens share a few hundred scores and their order
is chance. Boxes: a coordinate near 1 is known to 1/256 of the image in bfloat16. Sampling:
deformable attention interpolates at places inside a map that half precision rounds to fractions of
a cell. All are cheap, so they keep the precision of their weights.
"""

from typing import Any

import torch
from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor, nn

# Devices whose autocast is switched off; others have none, or one that PyTorch does not know.
AUTOCAST_DEVICES = ('cuda', 'cpu')


def no_autocast(tensor: Tensor) -> torch.autocast:
    """Context without mixed precision on the device of a tensor."""
    kind = tensor.device.type
    return torch.autocast(kind if kind in AUTOCAST_DEVICES else 'cpu', enabled=False)


def full_precision(module: nn.Module, tensor: Tensor, *args: Any) -> Any:
    """Apply a module in the precision of its weights, whatever the precision around it.

    Args:
        module: The module. One without weights takes the tensor as it is.
        tensor: Its first input, any shape.
        *args: Further inputs, passed as they are.

    Returns:
        What the module returns; float32 for float32 weights.
    """
    dtype = next((weight.dtype for weight in module.parameters()), tensor.dtype)
    with no_autocast(tensor):
        return module(tensor.to(dtype), *args)


def restore_precision(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Forward hook: give an output, any shape, the precision of the module's weights."""
    return output.to(next(module.parameters()).dtype)


def sample_in_full_precision(attention: MultiScaleDeformableAttention) -> None:
    """Let deformable attention sample in the precision of its weights, in place.

    mmcv's operator takes all inputs in the precision of the projected values: under float16 it
    rounds the sampling places, and for bfloat16 it has no kernel and gives way to a slower path.
    The linear layers stay in low precision.

    Args:
        attention: The attention.
    """
    attention.value_proj.register_forward_hook(restore_precision)
