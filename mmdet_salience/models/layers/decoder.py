"""Decoder of DINO with the published query head (spec section 7)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.layers import inverse_sigmoid
from mmdet.models.layers.transformer.deformable_detr_layers import (
    DeformableDetrTransformerDecoder,
)
from mmdet.models.layers.transformer.utils import MLP, coordinate_to_encoding
from mmdet.registry import MODELS
from torch import Tensor, nn

from .activation_checkpoint import call_layer, check_num_cp
from .precision import full_precision, sample_in_full_precision


@MODELS.register_module()
class SalienceDecoder(DeformableDetrTransformerDecoder):
    """Decoder with box refinement and look-forward-twice.

    The query position is made from C/2 sine features for each of the four box coordinates. Recent
    mmdet versions of ``DinoTransformerDecoder`` take C for each; the published weights of DINO and
    Salience DETR have C/2.

    Args:
        num_layers: Number of layers.
        eps: Clamp of the inverse sigmoid of the reference boxes.
        num_cp: Layers, from the first, whose activations are computed twice to save memory.
        **kwargs: Arguments of mmdet's Deformable DETR decoder.

    Raises:
        ValueError: ``num_cp`` is larger than the number of layers.
    """

    def __init__(
        self, num_layers: int, *args: Any, eps: float = 1e-3, num_cp: int = -1, **kwargs: Any
    ) -> None:
        check_num_cp(num_cp, num_layers, 'decoder')
        self.eps = eps
        self.num_cp = num_cp
        super().__init__(num_layers, *args, **kwargs)

    def _init_layers(self) -> None:
        """Add the query-position head and the output norm to mmdet's layers."""
        super()._init_layers()
        for layer in self.layers:
            sample_in_full_precision(layer.cross_attn)
        self.ref_point_head = MLP(self.embed_dims * 2, self.embed_dims, self.embed_dims, 2)
        self.norm = nn.LayerNorm(self.embed_dims)

    @property
    def num_heads(self) -> int:
        """Heads of the self-attention."""
        return self.layers[0].self_attn.num_heads

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key_padding_mask: Tensor,
        self_attn_mask: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        reg_branches: Sequence[nn.Module],
        canvas_ratios: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Decode the queries.

        Args:
            query: Content of the queries, (B, Q, C).
            value: Memory, (B, N, C).
            key_padding_mask: True for padded tokens, (B, N).
            self_attn_mask: True where a query may not look, (Q, Q) or (B * heads, Q, Q).
            reference_points: Initial boxes (cx, cy, w, h) in 0..1, (B, Q, 4).
            spatial_shapes: (height, width) of each level, (L, 2).
            level_start_index: First token of each level, (L,).
            valid_ratios: Valid share (width, height) of each level, (B, L, 2).
            reg_branches: Box head of each layer.
            canvas_ratios: Share (width, height) that the image has of its own canvas, (B, 2); it
                scales the boxes for the query positions. None takes the finest level's
                ``valid_ratios``, which is the same in a batch of one.
            **kwargs: Passed to the layers.

        Returns:
            Normed queries of each layer, (layers, B, Q, C), and the boxes before the first and
            after each layer, (layers + 1, B, Q, 4); the latter keep their gradient.
        """
        states, references = [], [reference_points]
        scale = torch.cat((valid_ratios, valid_ratios), dim=-1)[:, None]  # (B, 1, L, 4)
        if canvas_ratios is None:
            canvas_ratios = valid_ratios[:, 0]
        position_scale = torch.cat((canvas_ratios, canvas_ratios), dim=-1)[:, None]  # (B, 1, 4)
        for number, (layer, reg_branch) in enumerate(zip(self.layers, reg_branches, strict=False)):
            encoding = coordinate_to_encoding(
                reference_points * position_scale, num_feats=self.embed_dims // 2
            )
            query = call_layer(
                layer,
                number < self.num_cp,
                query,
                query_pos=self.ref_point_head(encoding.to(query.dtype)),
                value=value,
                key_padding_mask=key_padding_mask,
                self_attn_mask=self_attn_mask,
                reference_points=reference_points[:, :, None] * scale,
                spatial_shapes=spatial_shapes,
                level_start_index=level_start_index,
                **kwargs,
            )
            offset = full_precision(reg_branch, query)
            refined = (offset + inverse_sigmoid(reference_points, eps=self.eps)).sigmoid()
            reference_points = refined.detach()
            states.append(self.norm(query))
            references.append(refined)
        return torch.stack(states), torch.stack(references)


def hide_queries(attn_mask: Tensor | None, query_mask: Tensor, num_heads: int) -> Tensor:
    """Hide missing queries from the self-attention of the others.

    Args:
        attn_mask: True where a query may not look, (Q, Q), or None.
        query_mask: True for queries that an image does not have, (B, Q).
        num_heads: Heads of the self-attention.

    Returns:
        (B * heads, Q, Q).
    """
    mask = query_mask[:, None, :].expand(-1, query_mask.size(1), -1)
    if attn_mask is not None:
        mask = mask | attn_mask
    return mask.repeat_interleave(num_heads, dim=0)
