"""Which tokens each encoder layer updates (paper section 3.2, spec section 3).

Shapes: B images, L levels, T encoder layers, N tokens of all levels, K selected tokens.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from .constants import constant
from .geometry import BatchGeometry
from .tokens import best_first


def share_of(count: int, ratio: float) -> int:
    """Whole number of tokens in a share: ``floor(count * ratio)``.

    The ratio is taken as the fraction that is meant: 0.29 of 100 is 29, though the float is below.
    In integers, which ``torch.compile`` follows where sizes vary.
    """
    meant = Fraction(ratio).limit_denominator(10**6)
    return count * meant.numerator // meant.denominator


def level_budgets(num_valid: Sequence[int], ratios: Sequence[float]) -> tuple[int, ...]:
    """Tokens that one image keeps at each level.

    Args:
        num_valid: Tokens of each level that are not padding.
        ratios: Share to keep at each level.

    Returns:
        ``floor(num_valid * ratio)`` of each level. Where all of them are 0 in a tiny image, the
        level with the largest share keeps one token, so that every encoder layer has something to
        do.
    """
    kept = [share_of(count, ratio) for count, ratio in zip(num_valid, ratios, strict=True)]
    if not any(kept):
        shares = [count * ratio for count, ratio in zip(num_valid, ratios, strict=True)]
        kept[shares.index(max(shares))] = 1
    return tuple(kept)


def layer_budgets(num_kept: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Tokens that each encoder layer updates.

    Args:
        num_kept: Tokens the image keeps, all levels together.
        ratios: Share that each layer updates.

    Returns:
        ``floor(num_kept * ratio)`` of each layer, at least 1.
    """
    return tuple(max(1, share_of(num_kept, ratio)) for ratio in ratios)


class TokenSelection(NamedTuple):
    """The tokens of each encoder layer, nested sets in falling order of salience.

    Attributes:
        indices: Tokens of the first layers' largest set, (B, K); N marks an unused slot.
        scores: Salience logits of these tokens, (B, K).
        layer_counts: For each layer the number of tokens of each image.
        is_even: Whether all images use the same number of tokens, so that no slot is unused.
    """

    indices: Tensor
    scores: Tensor
    layer_counts: tuple[tuple[int, ...], ...]
    is_even: bool

    def layer_indices(self, layer: int, num_tokens: int) -> Tensor:
        """Tokens that a layer updates.

        Args:
            layer: Index of the encoder layer.
            num_tokens: N, the mark of an unused slot.

        Returns:
            (B, K_t); image b uses its first ``layer_counts[layer][b]`` slots.
        """
        counts = self.layer_counts[layer]
        indices = self.indices[:, : max(counts)]
        if self.is_even:
            return indices
        used = slots_in_use(counts, indices.size(1), indices.device)
        return indices.masked_fill(~used, num_tokens)


def slots_in_use(counts: Sequence[int], num_slots: int, device: torch.device) -> Tensor:
    """Mask (B, num_slots) that is True for the first ``counts[b]`` slots of image b."""
    limit = constant(tuple(counts), device)
    return torch.arange(num_slots, device=device)[None] < limit[:, None]


def check_shares(name: str, ratios: Sequence[float]) -> tuple[float, ...]:
    """Return ratios as a tuple; ValueError with their ``name`` if one is outside (0, 1]."""
    if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
        raise ValueError(f'{name} must be shares in (0, 1], got {tuple(ratios)}.')
    return tuple(ratios)


class LayerTokenFilter(BaseModule):
    """What all token filters share: nested shares of the kept tokens for the encoder layers.

    Args:
        layer_ratios: Share of the kept tokens that each encoder layer updates; must not rise.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: A ratio is outside (0, 1], or the ratios rise.
    """

    def __init__(
        self,
        layer_ratios: Sequence[float] = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.layer_ratios = check_shares('layer_ratios', layer_ratios)
        if sorted(layer_ratios, reverse=True) != list(layer_ratios):
            raise ValueError(f'layer_ratios must not rise, got {self.layer_ratios}.')

    def divide(
        self,
        scores: Tensor,
        indices: Tensor,
        num_kept: Sequence[int],
        is_even: bool,
        shared: bool = False,
    ) -> TokenSelection:
        """Divide the kept tokens among the layers.

        Args:
            scores: Salience logits of the kept tokens in falling order, (B, K).
            indices: These tokens, (B, K).
            num_kept: Tokens that each image keeps.
            is_even: Whether all images keep the same.
            shared: Whether the layers share out K, the batch's budget, of which an image uses what
                it keeps; else each image's own tokens are shared out.

        Returns:
            The selection.
        """
        budget = scores.size(1)
        budgets = (
            layer_budgets(budget if shared else kept, self.layer_ratios) for kept in num_kept
        )
        layer_counts = tuple(
            tuple(min(count, kept) for count, kept in zip(counts, num_kept, strict=True))
            for counts in zip(*budgets, strict=True)
        )
        size = max(layer_counts[0])
        return TokenSelection(indices[:, :size], scores[:, :size], layer_counts, is_even)


@MODELS.register_module()
class GlobalTokenFilter(LayerTokenFilter):
    """One budget for all levels together, then layer filtering (Focus-DETR, spec section 12).

    Args:
        ratio: Share of an image's valid tokens to keep.
        extra: Tokens to keep beyond that share.
        layer_ratios: Share of the kept tokens that each encoder layer updates; must not rise.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: A ratio is outside (0, 1], or the layers' ratios rise.
    """

    def __init__(
        self,
        ratio: float = 0.5,
        extra: int = 1,
        layer_ratios: Sequence[float] = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(layer_ratios, init_cfg)
        self.ratio = check_shares('ratio', (ratio,))[0]
        self.extra = extra

    def forward(
        self, salience: Sequence[Tensor], padding_mask: Tensor, geometry: BatchGeometry
    ) -> TokenSelection:
        """Select the tokens of each layer.

        Args:
            salience: Salience logits (B, 1, H, W) of each level.
            padding_mask: True for padded tokens, (B, N).
            geometry: Sizes of the batch.

        Returns:
            The selection; it depends on each image alone, unless ``geometry.shared``.
        """
        num_valid = [sum(valid) for valid in geometry.num_valid_tokens]
        shares = [max(1, share_of(count, self.ratio) + self.extra) for count in num_valid]
        counts = [min(share, count) for share, count in zip(shares, num_valid, strict=True)]
        scores = torch.cat([score.flatten(1) for score in salience], dim=1)
        values, indices = best_first(scores.masked_fill(padding_mask, -torch.inf), max(counts))
        is_even = len(set(counts)) == 1
        if not is_even:
            used = slots_in_use(counts, max(counts), values.device)
            values = values.masked_fill(~used, -torch.inf)
        return self.divide(values, indices, counts, is_even, geometry.shared)


@MODELS.register_module()
class HierarchicalTokenFilter(LayerTokenFilter):
    """Level filtering, then layer filtering.

    Args:
        level_ratios: Share of the valid tokens to keep at each level, finest first.
        layer_ratios: Share of the kept tokens that each encoder layer updates; must not rise.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: A ratio is outside (0, 1], or the layers' ratios rise.
    """

    def __init__(
        self,
        level_ratios: Sequence[float] = (0.4, 0.8, 1.0, 1.0),
        layer_ratios: Sequence[float] = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(layer_ratios, init_cfg)
        self.level_ratios = check_shares('level_ratios', level_ratios)

    def forward(
        self, salience: Sequence[Tensor], padding_mask: Tensor, geometry: BatchGeometry
    ) -> TokenSelection:
        """Select the tokens of each layer.

        Args:
            salience: Salience logits (B, 1, H, W) of each level.
            padding_mask: True for padded tokens, (B, N).
            geometry: Sizes of the batch.

        Returns:
            The selection; it depends on each image alone, unless ``geometry.shared``.

        Raises:
            ValueError: The number of levels is not that of ``level_ratios``.
        """
        if len(self.level_ratios) != geometry.num_levels:
            raise ValueError(
                f'level_ratios has {len(self.level_ratios)} entries for {geometry.num_levels} '
                'feature levels; give one ratio per level.'
            )
        budgets = [level_budgets(valid, self.level_ratios) for valid in geometry.num_valid_tokens]
        is_even = len(set(budgets)) == 1
        per_level = []
        masks = padding_mask.split(geometry.level_sizes, dim=1)
        starts = (sum(geometry.level_sizes[:level]) for level in range(geometry.num_levels))
        for level, (score, mask, start) in enumerate(zip(salience, masks, starts, strict=True)):
            counts = [budget[level] for budget in budgets]
            lowest = score.min() if geometry.shared else -torch.inf
            ranked = score.flatten(1).masked_fill(mask, lowest)
            values, places = best_first(ranked, max(counts))
            if not (is_even or geometry.shared):
                used = slots_in_use(counts, max(counts), values.device)
                values = values.masked_fill(~used, -torch.inf)
            per_level.append((values, places + start))
        scores = torch.cat([values for values, _ in per_level], dim=1)
        indices = torch.cat([places for _, places in per_level], dim=1)
        scores, order = best_first(scores, scores.size(1))
        indices, kept = indices.gather(1, order), [sum(budget) for budget in budgets]
        return self.divide(scores, indices, kept, is_even, geometry.shared)
