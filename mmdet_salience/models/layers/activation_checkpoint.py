"""Layers whose activations are computed again in the backward pass, to save memory."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def check_num_cp(num_cp: int, num_layers: int, place: str) -> None:
    """ValueError unless ``num_cp`` layers exist; ``place`` is the config key of their owner."""
    if num_cp > num_layers:
        raise ValueError(
            f'{place}.num_cp={num_cp}, but there are {num_layers} layers; give at most as many.'
        )


def call_layer(layer: nn.Module, recompute: bool, *args: Any, **kwargs: Any) -> Any:
    """Call a layer; where gradients are needed and ``recompute`` says so, keep its inputs only."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *args, use_reentrant=False, **kwargs)
    return layer(*args, **kwargs)
