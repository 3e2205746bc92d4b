"""Scale-independent supervision of the salience predictor (paper section 3.2, spec section 8).

Shapes: B images, N tokens of all levels, M objects of an image.
"""

import math
from collections.abc import Sequence

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..layers.constants import constant
from ..layers.geometry import Size
from ..layers.tokens import cell_grid


def salience_targets(points: Tensor, ranges: Tensor, boxes: Tensor, chunk_size: int = 16) -> Tensor:
    """Salience of points given boxes.

    With distances l, t, r, b of a point to the borders of a box that contains it, its salience is
    ``1 - sqrt(dx^2 + dy^2) / 2``, where dx = (l - r) / (l + r) and dy = (t - b) / (t + b): 1 at the
    centre, about 0.293 at a corner, whatever the box's size::

        0.293 --- 0.5 --- 0.293
          |        |        |
         0.5 ----- 1 ----- 0.5
          |        |        |
        0.293 --- 0.5 --- 0.293

    A point takes the largest value of its boxes. It keeps it only if a box that contains it has its
    farthest border in the range of the point's level.

    Args:
        points: Pixel centres (x, y), (N, 2).
        ranges: Lower (excluded) and upper (included) limit of the farthest border in pixels, for
            each point, (N, 2).
        boxes: (x1, y1, x2, y2) in pixels, (B, M, 4); M may be 0, and empty boxes contain nothing.
        chunk_size: Boxes per image that are compared with the points at once; it bounds the memory.

    Returns:
        Salience in [0, 1], (B, N).
    """
    best = boxes.new_zeros(boxes.size(0), points.size(0))
    if boxes.size(1) == 0:
        return best
    in_range = torch.zeros_like(best, dtype=torch.bool)
    for chunk in boxes.split(chunk_size, dim=1):
        salience, keeps = chunk_salience(points, ranges, chunk)
        best = torch.maximum(best, salience)
        in_range |= keeps
    return best * in_range


def chunk_salience(points: Tensor, ranges: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Largest salience of each point among a few boxes.

    Args:
        points: As for :func:`salience_targets`.
        ranges: The same.
        boxes: (x1, y1, x2, y2) in pixels, (B, M, 4).

    Returns:
        Salience, and whether a box that contains the point is in the range of its level, (B, N)
        each.
    """
    x, y = points[:, 0, None], points[:, 1, None]
    x1, y1, x2, y2 = boxes[:, None].unbind(-1)  # each (B, 1, M)
    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y  # each (B, N, M)
    nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
    farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
    inside = nearest > 0
    in_range = inside & (farthest > ranges[:, :1]) & (farthest <= ranges[:, 1:])
    tiny = torch.finfo(boxes.dtype).tiny
    delta_x = (left - right) / (x2 - x1).clamp(min=tiny)
    delta_y = (top - bottom) / (y2 - y1).clamp(min=tiny)
    salience = 1 - torch.hypot(delta_x, delta_y) / 2
    return salience.masked_fill(~inside, 0).amax(dim=-1), in_range.any(dim=-1)


@TASK_UTILS.register_module()
class SalienceAssigner:
    """Assign salience targets to the tokens of all levels.

    Args:
        level_ranges: For each level the lower (excluded) and upper (included) limit, in pixels, of
            an object's farthest border from a token; finest level first.
        chunk_size: Boxes per image that are compared with the tokens at once. The peak of memory
            grows with it, by about 11 floats per token, box and image.
    """

    def __init__(
        self,
        level_ranges: Sequence[Sequence[float]] = (
            (-1, 64),
            (64, 128),
            (128, 256),
            (256, math.inf),
        ),
        chunk_size: int = 16,
    ) -> None:
        if chunk_size < 1:
            raise ValueError(f'salience_assigner.chunk_size must be at least 1, got {chunk_size}.')
        self.chunk_size = chunk_size
        self.level_ranges = tuple((float(low), float(high)) for low, high in level_ranges)

    def assign(
        self, gt_bboxes: Sequence[Tensor], level_shapes: Sequence[Size], batch_shape: Size
    ) -> Tensor:
        """Compute the targets of a batch.

        Args:
            gt_bboxes: For each image its boxes (x1, y1, x2, y2) in pixels of the padded batch,
                (M, 4); M may be 0.
            level_shapes: (height, width) of each level, finest first.
            batch_shape: (height, width) of the padded batch in pixels.

        Returns:
            Targets in [0, 1], (B, N).

        Raises:
            ValueError: The number of levels is not that of ``level_ranges``.
        """
        if len(level_shapes) != len(self.level_ranges):
            raise ValueError(
                f'salience_assigner.level_ranges has {len(self.level_ranges)} entries for '
                f'{len(level_shapes)} feature levels; give one range per level.'
            )
        boxes = pad_sequence([box.float() for box in gt_bboxes], batch_first=True)
        points, ranges = [], []
        for (height, width), limits in zip(level_shapes, self.level_ranges, strict=True):
            stride = (batch_shape[1] / width, batch_shape[0] / height)
            pixels = constant(stride, boxes.device, boxes.dtype)
            points.append((cell_grid((height, width), boxes.device) + 0.5) * pixels)
            limit = constant(limits, boxes.device, boxes.dtype)
            ranges.append(limit.expand(height * width, 2))
        return self.score(torch.cat(points), torch.cat(ranges), boxes)

    def score(self, points: Tensor, ranges: Tensor, boxes: Tensor) -> Tensor:
        """Targets of points, as :func:`salience_targets`."""
        return salience_targets(points, ranges, boxes, self.chunk_size)


@TASK_UTILS.register_module()
class ForegroundAssigner(SalienceAssigner):
    """Assign binary targets: 1 inside a box whose farthest border is in the level's range.

    This is Focus-DETR's supervision (spec section 12), and the one that the paper starts from.

    Args:
        level_ranges: As for :class:`SalienceAssigner`.
    """

    def score(self, points: Tensor, ranges: Tensor, boxes: Tensor) -> Tensor:
        """Targets of points, arguments as for :func:`salience_targets`; 0 or 1, (B, N)."""
        return (super().score(points, ranges, boxes) > 0).to(boxes.dtype)
