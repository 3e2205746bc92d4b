"""Tokens of a batch: feature maps flattened level by level, with what belongs to each token.

Shapes: B images, L levels, N tokens of all levels, C channels; (H, W) a level's size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .constants import constant
from .geometry import BatchGeometry, Size


class FeatureTokens(NamedTuple):
    """Flattened feature maps of a batch.

    Attributes:
        feat: Features, (B, N, C).
        pos: Sine position plus level embedding, (B, N, C).
        padding_mask: True for tokens outside the image, (B, N).
        centers: Token centres (x, y) relative to the image, in 0..1 inside it, (B, N, 2).
        proposals: Logits of the proposal boxes (cx, cy, w, h), +inf for invalid ones, (B, N, 4).
        invalid: True for padded tokens and tokens whose proposal is invalid, (B, N).
        spatial_shapes: (height, width) of each level, (L, 2).
        level_start_index: First token of each level, (L,).
        valid_ratios: Valid share (width, height) of each level's map, (B, L, 2).
        canvas_ratios: Valid share (width, height) of the finest level of each image's own canvas,
            (B, 2).
        geometry: The same sizes as Python integers.
    """

    feat: Tensor
    pos: Tensor
    padding_mask: Tensor
    centers: Tensor
    proposals: Tensor
    invalid: Tensor
    spatial_shapes: Tensor
    level_start_index: Tensor
    valid_ratios: Tensor
    canvas_ratios: Tensor
    geometry: BatchGeometry


def split_levels(tokens: Tensor, level_shapes: Sequence[Size]) -> list[Tensor]:
    """Turn tokens back into maps.

    Args:
        tokens: (B, N, C).
        level_shapes: (height, width) of each level.

    Returns:
        A map (B, C, H, W) of each level.
    """
    chunks = tokens.split([height * width for height, width in level_shapes], dim=1)
    return [
        chunk.transpose(1, 2).unflatten(2, shape)
        for chunk, shape in zip(chunks, level_shapes, strict=True)
    ]


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """Flatten maps (B, C, H, W) of all levels into tokens (B, N, C)."""
    return torch.cat([level.flatten(2) for level in maps], dim=2).transpose(1, 2)


def cell_grid(shape: Size, device: torch.device) -> Tensor:
    """Cell indices (x, y) of a map in row-major order, (H*W, 2), float."""
    rows = torch.arange(shape[0], device=device, dtype=torch.float32)
    columns = torch.arange(shape[1], device=device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    return torch.stack((x, y), dim=-1).flatten(0, 1)


def level_masks(geometry: BatchGeometry, valid: Tensor) -> list[Tensor]:
    """Padding masks of all levels.

    Args:
        geometry: Sizes of the batch.
        valid: Valid (height, width) of each image and level, (B, L, 2).

    Returns:
        For each level a mask (B, H, W), True where padded.
    """
    masks = []
    for level, (height, width) in enumerate(geometry.level_shapes):
        rows = torch.arange(height, device=valid.device)[None, :, None]
        columns = torch.arange(width, device=valid.device)[None, None, :]
        size = valid[:, level, :, None, None]
        masks.append((rows >= size[:, 0]) | (columns >= size[:, 1]))
    return masks


def token_centers(geometry: BatchGeometry, valid: Tensor) -> Tensor:
    """Token centres (x, y) relative to the valid part of each level, (B, N, 2)."""
    centers = []
    for level, shape in enumerate(geometry.level_shapes):
        size_xy = valid[:, level].flip(-1)[:, None].float()
        centers.append((cell_grid(shape, valid.device)[None] + 0.5) / size_xy)
    return torch.cat(centers, dim=1)


def box_proposals(
    centers: Tensor,
    geometry: BatchGeometry,
    padding_mask: Tensor,
    base_size: float = 0.05,
    limits: tuple[float, float] = (0.01, 0.99),
) -> tuple[Tensor, Tensor]:
    """Proposal boxes of the two-stage output (spec section 6, Deformable DETR).

    Args:
        centers: Token centres, (B, N, 2).
        geometry: Sizes of the batch.
        padding_mask: True for padded tokens, (B, N).
        base_size: Width and height of the finest level's boxes relative to the image; they double
            from level to level.
        limits: Boxes with a coordinate outside are invalid.

    Returns:
        Box logits (cx, cy, w, h), (B, N, 4), +inf where invalid or padded; and that mask, (B, N).
    """
    levels = torch.arange(geometry.num_levels, device=centers.device, dtype=torch.float32)
    sizes = (base_size * 2.0**levels).repeat_interleave(
        constant(geometry.level_sizes, centers.device),
        output_size=geometry.num_tokens,
    )
    boxes = torch.cat((centers, sizes[None, :, None].expand(centers.size(0), -1, 2)), dim=-1)
    invalid = padding_mask | ~((boxes > limits[0]) & (boxes < limits[1])).all(-1)
    logits = torch.log(boxes / (1 - boxes))
    return logits.masked_fill(invalid[..., None], torch.inf), invalid


def flatten_features(
    maps: Sequence[Tensor],
    geometry: BatchGeometry,
    positional_encoding: nn.Module,
    level_embed: Tensor,
) -> FeatureTokens:
    """Flatten feature maps and attach positions, masks and proposals.

    Args:
        maps: Features (B, C, H, W) of each level, finest first.
        geometry: Sizes of the batch.
        positional_encoding: Module that turns a padding mask (B, H, W) into positions
            (B, C, H, W), such as mmdet's ``SinePositionalEncoding``.
        level_embed: Learned embedding of each level, (L, C).

    Returns:
        The tokens.

    Raises:
        ValueError: The maps' sizes do not follow from the images' sizes and the strides.
    """
    shapes = tuple((feat.size(2), feat.size(3)) for feat in maps)
    if shapes != geometry.level_shapes:
        raise ValueError(
            f'The feature maps have sizes {shapes}, but feature_strides lead to '
            f'{geometry.level_shapes}. Set feature_strides of the detector to the strides of the '
            "neck's outputs."
        )
    device = maps[0].device
    valid = constant(geometry.valid_shapes, device)
    masks = level_masks(geometry, valid)
    pos = [
        positional_encoding(mask).to(feat.dtype) + embed[None, :, None, None]
        for feat, mask, embed in zip(maps, masks, level_embed, strict=True)
    ]
    padding_mask = torch.cat([mask.flatten(1) for mask in masks], dim=1)
    centers = token_centers(geometry, valid)
    proposals, invalid = box_proposals(centers, geometry, padding_mask)
    spatial_shapes = constant(shapes, device)
    sizes = constant((0, *geometry.level_sizes[:-1]), device)
    canvas = constant(tuple(levels[0] for levels in geometry.canvas_level_shapes), device)
    return FeatureTokens(
        feat=join_levels(maps),
        pos=join_levels(pos),
        padding_mask=padding_mask,
        centers=centers,
        proposals=proposals,
        invalid=invalid,
        spatial_shapes=spatial_shapes,
        level_start_index=sizes.cumsum(0),
        valid_ratios=(valid / spatial_shapes).flip(-1),
        canvas_ratios=(valid[:, 0] / canvas).flip(-1),
        geometry=geometry,
    )


def gather_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """Pick tokens (B, N, C) by indices (B, K); returns (B, K, C)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.size(-1)))


def best_first(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pick the best tokens; of equal ones the first.

    Many tokens are equal: all with an invalid proposal have the same features. ``topk`` may pick
    any of them, and does so by the length of the row, that is, by the batch-mates of an image.

    Args:
        scores: Score of each token, (B, N).
        count: Tokens to pick, K.

    Returns:
        Scores of the best tokens in falling order, and the tokens, (B, K) each.
    """
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :count], indices[:, :count]
