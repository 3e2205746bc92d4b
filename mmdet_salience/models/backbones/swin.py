"""Swin Transformer as torchvision and the release compute it, on mmdet's implementation."""

from collections.abc import MutableMapping
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.backbones import SwinTransformer
from mmdet.models.backbones.swin import ShiftWindowMSA
from mmdet.registry import MODELS
from torch import Tensor, nn

from ...utils.backbone_checkpoints import convert_backbone, torchvision_swin_to_mmdet


@MODELS.register_module()
class TorchvisionSwinTransformer(SwinTransformer):
    """mmdet's ``SwinTransformer`` with the arithmetic of torchvision's, as in the release.

    The outputs have no LayerNorm of their own, and windows are not shifted along an axis that one
    window covers. Weights in torchvision's layout load as they are; for the original authors'
    files set ``convert_weights=True``, as in mmdet.

    Args:
        *args: Arguments of mmdet's ``SwinTransformer``.
        **kwargs: The same.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for index in self.out_indices:
            setattr(self, f'norm{index}', nn.Identity())
        for stage in self.stages:
            for block in stage.blocks:
                block.attn = PerAxisShiftWindowMSA(block.attn)

    def init_weights(self) -> None:
        """Load ``init_cfg``, through mmdet's converter where ``convert_weights`` says so."""
        if self.init_cfg and not self.convert_weights:
            super(SwinTransformer, self).init_weights()
        else:
            super().init_weights()

    def _load_from_state_dict(self, state_dict: MutableMapping, prefix: str, *args: Any) -> None:
        """Accept torchvision's names wherever weights are loaded."""
        convert_backbone(state_dict, prefix, 'features.0.0.weight', torchvision_swin_to_mmdet, self)
        super()._load_from_state_dict(state_dict, prefix, *args)


class PerAxisShiftWindowMSA(nn.Module):
    """Shifted-window attention that shifts only the axes with more than one window.

    Args:
        attention: mmdet's module, whose parts are taken over.
    """

    def __init__(self, attention: ShiftWindowMSA) -> None:
        super().__init__()
        self.window_size = attention.window_size
        self.shift_size = attention.shift_size
        self.w_msa = attention.w_msa
        self.drop = attention.drop

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Let every token attend to its window.

        Args:
            query: (B, H·W, C).
            hw_shape: (H, W).

        Returns:
            (B, H·W, C).
        """
        size, (height, width) = self.window_size, hw_shape
        x = query.unflatten(1, (height, width))
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        shift = tuple(self.shift_size if side > size else 0 for side in x.shape[1:3])
        mask = None
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
            mask = shift_mask(tuple(x.shape[1:3]), size, shift, x)
        windows = self.w_msa(split_windows(x, size), mask)
        x = join_windows(windows, tuple(x.shape[:3]), size).roll(shift, dims=(1, 2))
        return self.drop(x[:, :height, :width].flatten(1, 2))


def split_windows(x: Tensor, size: int) -> Tensor:
    """Cut maps (B, H, W, C) into windows (B·windows, size², C), in row order."""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))  # B, rows, size, columns, size, C
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def join_windows(windows: Tensor, shape: tuple[int, ...], size: int) -> Tensor:
    """Undo :func:`split_windows`.

    Args:
        windows: (B·windows, size², C).
        shape: (B, H, W).
        size: Side of a window.

    Returns:
        (B, H, W, C).
    """
    batch, height, width = shape
    x = windows.reshape(batch, height // size, width // size, size, size, windows.size(-1))
    return x.transpose(2, 3).reshape(batch, height, width, windows.size(-1))


def shift_mask(
    shape: tuple[int, ...], size: int, shift: tuple[int, ...], like: Tensor, hidden: float = -100.0
) -> Tensor:
    """Keep tokens that a cyclic shift brought together from attending to each other.

    Args:
        shape: (H, W), multiples of ``size``.
        size: Side of a window.
        shift: Shift of each axis, 0 where there is none.
        like: Gives device and type.
        hidden: Added to the attention of tokens that are no neighbours.

    Returns:
        (windows, size², size²), 0 or ``hidden``.
    """
    parts = []
    for side, step in zip(shape, shift, strict=True):
        place = torch.arange(side, device=like.device)
        parts.append((place >= side - size).long() + ((place >= side - step) if step else 0))
    region = 3 * parts[0][:, None] + parts[1]
    windows = split_windows(region[None, ..., None], size).squeeze(-1)
    differs = windows[:, None] != windows[:, :, None]
    return torch.zeros_like(differs, dtype=like.dtype).masked_fill(differs, hidden)
