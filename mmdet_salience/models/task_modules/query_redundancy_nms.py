"""Removal of redundant queries (paper section 3.4, spec section 6).

Shapes: B images, N tokens of all levels, M candidates, Q queries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmcv.ops import nms
from mmdet.registry import TASK_UTILS
from torch import Tensor

from ..layers.constants import constant
from ..layers.geometry import BatchGeometry
from ..layers.tokens import best_first, cell_grid


class QuerySelection(NamedTuple):
    """Tokens that become queries.

    Attributes:
        indices: Chosen tokens in order, (B, Q').
        candidates: Tokens before redundancy removal in falling order of score, (B, M).
        padding_mask: True for entries of ``indices`` that an image does not have, (B, Q'); None
            where every image has Q'. Only images with fewer tokens than Q lack any.
    """

    indices: Tensor
    candidates: Tensor
    padding_mask: Tensor | None


def suppress_neighbours(
    cells: Tensor, groups: Tensor, iou_threshold: float, radius: float = 1.0
) -> Tensor:
    """Greedy NMS of boxes around grid cells, in the given order.

    A cell at (x, y) has the box ``[x - radius, y - radius, x + radius, y + radius]``. With radius 1
    the four neighbours overlap by 1/3, the diagonal ones by 1/7.

    Args:
        cells: Cell indices (x, y), best first within each image, (B, M, 2).
        groups: Level of each cell, (B, M); levels and images do not suppress each other.
        iou_threshold: Boxes that overlap a better one by more are removed.
        radius: Half the side of a box, in cells.

    Returns:
        True for the survivors, (B, M).
    """
    # NMS is quadratic in the boxes of a call, so each image has its own.
    extent = cells.max() + 2 * radius + 1  # moves levels apart
    centers = cells + (groups * extent)[..., None]
    boxes = torch.cat((centers - radius, centers + radius), dim=-1)
    order = torch.arange(groups.size(1), 0, -1, device=cells.device, dtype=boxes.dtype)
    kept = torch.zeros_like(groups, dtype=torch.bool)
    for image, candidates in zip(kept, boxes, strict=True):
        image[nms(candidates, order, iou_threshold)[1]] = True
    return kept


def available_queries(geometry: BatchGeometry, num_queries: int) -> list[int]:
    """Queries that each image can have: ``num_queries``, or its valid tokens if there are fewer."""
    return [min(num_queries, sum(valid)) for valid in geometry.num_valid_tokens]


def missing_queries(available: Sequence[int], device: torch.device) -> Tensor | None:
    """Mark the queries that an image does not have.

    Args:
        available: Queries of each image.
        device: Where the mask is needed.

    Returns:
        (B, max(available)), True for missing queries; None if none is missing.
    """
    if len(set(available)) == 1:
        return None
    limit = constant(tuple(available), device)[:, None]
    return torch.arange(max(available), device=device)[None] >= limit


@TASK_UTILS.register_module()
class QueryRedundancyNMS:
    """Select queries among the best tokens, without neighbours of better ones.

    The best ``candidate_factor * Q`` tokens of an image take part. Survivors come first, in order
    of score; if fewer than Q survive, the best of the removed fill up. The choice depends on each
    image alone.

    Args:
        iou_threshold: Overlap of two tokens' boxes above which the weaker one is redundant.
        candidate_factor: Candidates per query.
        radius: Half the side of a token's box, in cells of its level.
    """

    def __init__(
        self, iou_threshold: float = 0.3, candidate_factor: int = 4, radius: float = 1.0
    ) -> None:
        if candidate_factor < 1:
            raise ValueError(f'candidate_factor must be at least 1, got {candidate_factor}.')
        self.iou_threshold = iou_threshold
        self.candidate_factor = candidate_factor
        self.radius = radius

    def __call__(
        self, scores: Tensor, padding_mask: Tensor, geometry: BatchGeometry, num_queries: int
    ) -> QuerySelection:
        """Select queries.

        Args:
            scores: Best class logit of each token, (B, N).
            padding_mask: True for padded tokens, which are never chosen, (B, N).
            geometry: Sizes of the batch.
            num_queries: Q.

        Returns:
            The chosen tokens; ``Q' = min(Q, most valid tokens of an image)``.
        """
        num_candidates = min(self.candidate_factor * num_queries, geometry.num_tokens)
        scores = scores.detach().masked_fill(padding_mask, -torch.inf)
        candidates = best_first(scores, num_candidates)[1]
        cells = torch.cat([cell_grid(shape, scores.device) for shape in geometry.level_shapes])
        levels = torch.cat(
            [cells.new_full((size,), i) for i, size in enumerate(geometry.level_sizes)]
        )
        kept = suppress_neighbours(
            cells[candidates], levels[candidates], self.iou_threshold, self.radius
        )
        # Survivors, then the removed, then padding; by score within each.
        place = torch.arange(num_candidates, device=scores.device).expand_as(candidates)
        place = place + num_candidates * (~kept)
        place = place + 2 * num_candidates * padding_mask.gather(1, candidates)
        available = available_queries(geometry, num_queries)
        order = place.topk(max(available), dim=1, largest=False).indices
        indices = candidates.gather(1, order)
        return QuerySelection(indices, candidates, missing_queries(available, scores.device))


@TASK_UTILS.register_module()
class TopQuerySelection:
    """Select the tokens with the best class logits, neighbours included, as DINO does."""

    def __call__(
        self, scores: Tensor, padding_mask: Tensor, geometry: BatchGeometry, num_queries: int
    ) -> QuerySelection:
        """Select queries; arguments and result as those of :class:`QueryRedundancyNMS`."""
        available = available_queries(geometry, num_queries)
        scores = scores.detach().masked_fill(padding_mask, -torch.inf)
        indices = best_first(scores, max(available))[1]
        return QuerySelection(indices, indices, missing_queries(available, scores.device))
