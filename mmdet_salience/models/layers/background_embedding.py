"""Embedding of the tokens that filtering left behind (paper section 3.3, spec section 5)."""

import math

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .constants import constant
from .geometry import BatchGeometry


def lookup(table: Tensor, length: int, sizes: Tensor, max_step: float = 1.0) -> Tensor:
    """Rows of a table for each cell of an axis, interpolated between them.

    Args:
        table: (M, D).
        length: Cells of the axis in the padded batch.
        sizes: Cells of the axis in each image's canvas, (B,).
        max_step: Most rows from one cell to the next. With 1 an axis of up to M cells reads the
            rows as they are; a longer one spreads the M rows over its cells linearly. Without a
            limit every axis does.

    Returns:
        (B, length, D).
    """
    last = table.size(0) - 1
    cells = torch.arange(length, device=table.device, dtype=torch.float32)
    step = (last / (sizes - 1).clamp(min=1)).clamp(max=max_step)
    place = (cells[None] * step[:, None]).clamp(max=last)
    below = place.floor()
    share = (place - below)[..., None].to(table.dtype)
    below = below.long()
    above = (below + 1).clamp(max=last)
    return torch.lerp(table[below], table[above], share)


@MODELS.register_module()
class AbsoluteBackgroundEmbedding(BaseModule):
    """Learned column and row embeddings shared by all levels.

    Args:
        embed_dims: Channels C; the first half comes from the column, the second from the row.
        num_embeddings: Entries of each table, M. Larger maps interpolate it.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self, embed_dims: int = 256, num_embeddings: int = 200, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.row_embed = nn.Embedding(num_embeddings, embed_dims // 2)
        self.col_embed = nn.Embedding(num_embeddings, embed_dims - embed_dims // 2)
        self.reset_parameters()

    # Most rows of a table from one cell to the next.
    max_step = 1.0

    def reset_parameters(self) -> None:
        """Draw both tables from U(0, 1)."""
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, geometry: BatchGeometry) -> Tensor:
        """Embed the tokens of all levels.

        Args:
            geometry: Sizes of the batch.

        Returns:
            (B, N, C).
        """
        device = self.row_embed.weight.device
        shapes = tuple(dict.fromkeys(geometry.canvas_level_shapes))
        sizes = constant(shapes, device)  # (S, L, 2), one row per size
        levels = []
        for level, (height, width) in enumerate(geometry.level_shapes):
            rows = lookup(self.row_embed.weight, height, sizes[:, level, 0], self.max_step)
            columns = lookup(self.col_embed.weight, width, sizes[:, level, 1], self.max_step)
            columns = columns[:, None].expand(-1, height, -1, -1)
            rows = rows[:, :, None].expand(-1, -1, width, -1)
            levels.append(torch.cat((columns, rows), dim=-1).flatten(1, 2))
        embedding = torch.cat(levels, dim=1)
        if len(shapes) == 1:
            return embedding.expand(geometry.batch_size, -1, -1)
        places = tuple(shapes.index(canvas) for canvas in geometry.canvas_level_shapes)
        return embedding[constant(places, device)]


@MODELS.register_module()
class RelativeBackgroundEmbedding(AbsoluteBackgroundEmbedding):
    """Column and row embeddings of where a token lies relative to the extent of its level.

    The tables span every map from border to border: a token in the middle of an image gets the same
    embedding at each level and for each image size. The absolute embedding counts cells instead, so
    that a cell's number decides. The paper tried a relative embedding, found it slightly worse and
    does not say how it is computed; this one is ours.
    """

    max_step = math.inf
