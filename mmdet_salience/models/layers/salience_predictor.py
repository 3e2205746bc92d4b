"""Salience scores of all tokens, coarse to fine (paper section 3.2, spec section 2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .canvas import pad_maps
from .constants import constant
from .geometry import BatchGeometry, Size
from .tokens import split_levels


def resize_aligned(maps: Tensor, sources: Sequence[Size], targets: Sequence[Size]) -> Tensor:
    """Resize maps bilinearly with aligned corners, each image within its own part of the map.

    Args:
        maps: (B, 1, H, W); image b occupies the top-left ``sources[b]`` cells.
        sources: (height, width) of each image's part, before.
        targets: (height, width) of each image's part, after.

    Returns:
        (B, 1, H', W') with H', W' the largest of the targets. Cells beyond an image's part repeat
        its border.
    """
    size = (max(height for height, _ in targets), max(width for _, width in targets))
    if all(shape == maps.shape[2:] for shape in sources) and len(set(targets)) == 1:
        return F.interpolate(maps, size=size, mode='bilinear', align_corners=True)
    old, new = (constant(tuple(shapes), maps.device).flip(-1) for shapes in (sources, targets))
    step = (old - 1) / (new - 1).clamp(min=1)  # (B, 2): x, y cells of the old map per new cell
    x, y = (
        torch.minimum(
            torch.arange(length, device=maps.device) * step[:, axis, None], old[:, axis, None] - 1
        )
        for axis, length in ((0, size[1]), (1, size[0]))
    )
    grid = torch.stack((x[:, None, :].expand(-1, *size), y[:, :, None].expand(-1, *size)), dim=-1)
    extent = constant((max(maps.size(3) - 1, 1), max(maps.size(2) - 1, 1)), maps.device)
    grid = (2 * grid / extent - 1).to(maps.dtype)
    return F.grid_sample(maps, grid, mode='bilinear', padding_mode='border', align_corners=True)


@MODELS.register_module()
class SaliencePredictor(BaseModule):
    """Predict how salient each token is, from the coarsest level to the finest.

    A level's score map, enlarged, modulates the features of the next finer level:
    ``m + m * score * alpha``.

    Args:
        embed_dims: Channels of the tokens, C.
        num_levels: Number of feature levels, L.
        alpha_range: The learned factor of each level but the coarsest starts uniformly within
            plus or minus this number.
        init_cfg: MMEngine's initialisation config; None takes Xavier weights and zero biases.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_levels: int = 4,
        alpha_range: float = 0.3,
        init_cfg: dict | None = None,
    ) -> None:
        xavier = dict(type='Xavier', layer='Linear', distribution='uniform', bias=0.0)
        super().__init__(init_cfg=init_cfg or xavier)
        self.num_levels = num_levels
        self.embed = nn.Sequential(
            nn.LayerNorm(embed_dims), nn.Linear(embed_dims, embed_dims), nn.GELU()
        )
        self.score = nn.Sequential(
            nn.Linear(embed_dims, embed_dims // 2),
            nn.GELU(),
            nn.Linear(embed_dims // 2, embed_dims // 4),
            nn.GELU(),
            nn.Linear(embed_dims // 4, 1),
        )
        alpha = torch.empty(num_levels - 1).uniform_(-alpha_range, alpha_range)
        # A single level has none; DDP stops at a trained parameter without gradient.
        self.alpha = nn.Parameter(alpha, requires_grad=num_levels > 1)

    def forward(self, memory: Tensor, geometry: BatchGeometry) -> tuple[Tensor, ...]:
        """Score all tokens.

        Args:
            memory: Projected tokens (features and positions), (B, N, C).
            geometry: Sizes of the batch.

        Returns:
            Salience logits (B, 1, H, W) of each level, finest first.
        """
        maps = split_levels(memory, geometry.level_shapes)
        scores: list[Tensor] = []
        for level in reversed(range(geometry.num_levels)):
            tokens = maps[level].flatten(2).transpose(1, 2)  # (B, H*W, C)
            shapes = [levels[level] for levels in geometry.canvas_level_shapes]
            if scores:
                coarser = [levels[level + 1] for levels in geometry.canvas_level_shapes]
                finer = resize_aligned(scores[0], coarser, shapes)
                finer = pad_maps(finer, geometry.level_shapes[level])
                tokens = tokens + tokens * finer.flatten(2).transpose(1, 2) * self.alpha[level]
            score = self.score_level(tokens, geometry.level_shapes[level], shapes)
            scores.insert(0, score.transpose(1, 2).unflatten(2, geometry.level_shapes[level]))
        return tuple(scores)

    def score_level(self, tokens: Tensor, shape: Size, canvases: Sequence[Size]) -> Tensor:
        """Score the tokens of one level.

        Args:
            tokens: (B, H*W, C).
            shape: (H, W) of the level in the padded batch.
            canvases: (height, width) of each image's canvas at this level; the global half of the
                channels is averaged over the canvas, not over the padding of a larger batch-mate.

        Returns:
            Logits, (B, H*W, 1).
        """
        local, context = self.embed(tokens).chunk(2, dim=-1)
        if all(canvas == shape for canvas in canvases):
            mean = context.mean(dim=1, keepdim=True)
        else:
            size = constant(tuple(canvases), tokens.device)
            rows = torch.arange(shape[0], device=tokens.device) < size[:, :1]
            columns = torch.arange(shape[1], device=tokens.device) < size[:, 1:]
            inside = (rows[:, :, None] & columns[:, None, :]).flatten(1)[..., None].to(context)
            mean = (context * inside).sum(dim=1, keepdim=True) / inside.sum(dim=1, keepdim=True)
        return self.score(torch.cat((local, mean.expand_as(local)), dim=-1))
