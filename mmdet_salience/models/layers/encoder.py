"""Encoder that updates only the most salient tokens (paper section 3.2, spec sections 4 and 5).

Shapes: B images, L levels, N tokens of all levels, K tokens of a layer, C channels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import MultiheadAttention
from mmdet.models.layers.transformer.deformable_detr_layers import (
    DeformableDetrTransformerEncoder,
    DeformableDetrTransformerEncoderLayer,
)
from mmdet.registry import MODELS
from mmengine.model import ModuleList
from torch import Tensor, nn

from .activation_checkpoint import call_layer, check_num_cp
from .precision import full_precision, sample_in_full_precision
from .token_filter import TokenSelection
from .tokens import FeatureTokens, gather_tokens


class EncoderOutput(NamedTuple):
    """What the encoder returns.

    Attributes:
        memory: All tokens after the last layer and the background embedding, (B, N, C).
        selection: The tokens that each layer updated.
    """

    memory: Tensor
    selection: TokenSelection


class FilteringEncoderLayer(DeformableDetrTransformerEncoderLayer):
    """Self-attention of the best tokens, deformable attention and FFN of all selected tokens.

    Args:
        dual_attn_cfg: Arguments of the self-attention among the best tokens.
        num_dual_tokens: How many tokens take part in it.
        **kwargs: Arguments of mmdet's Deformable DETR encoder layer.
    """

    def __init__(
        self, *, dual_attn_cfg: dict | None = None, num_dual_tokens: int = 300, **kwargs: Any
    ) -> None:
        self.dual_attn_cfg = dict(embed_dims=256, num_heads=8, dropout=0.0)
        self.dual_attn_cfg.update(dual_attn_cfg or {}, batch_first=True)
        self.num_dual_tokens = num_dual_tokens
        super().__init__(**kwargs)

    def _init_layers(self) -> None:
        """Add the dual attention and its norm to mmdet's layer."""
        super()._init_layers()
        sample_in_full_precision(self.self_attn)
        self.dual_attn = MultiheadAttention(**self.dual_attn_cfg)
        self.dual_norm = build_norm_layer(self.norm_cfg, self.embed_dims)[1]

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        ranking: Tensor,
        unused: Tensor | None = None,
        **deformable_inputs: Any,
    ) -> Tensor:
        """Update the selected tokens.

        Args:
            query: Selected tokens, (B, K, C).
            query_pos: Their positions, (B, K, C).
            ranking: Class score times salience of each, (B, K); -inf for unused slots.
            unused: True for unused slots, (B, K); None where all are used.
            **deformable_inputs: Further inputs of ``MultiScaleDeformableAttention``.

        Returns:
            The updated tokens, (B, K, C).
        """
        query = self.attend_best(query, query_pos, ranking, unused)
        query = self.norms[0](self.self_attn(query, query_pos=query_pos, **deformable_inputs))
        return self.norms[1](self.ffn(query))

    def attend_best(
        self, query: Tensor, query_pos: Tensor, ranking: Tensor, unused: Tensor | None
    ) -> Tensor:
        """Let the best-ranked tokens attend to each other; arguments as in :meth:`forward`."""
        best = ranking.topk(min(self.num_dual_tokens, ranking.size(1)), dim=1).indices
        tokens, pos = gather_tokens(query, best), gather_tokens(query_pos, best)
        tokens = self.dual_attn(
            tokens,
            value=tokens,
            query_pos=pos,
            key_pos=pos,
            key_padding_mask=None if unused is None else unused.gather(1, best),
        )
        tokens = self.dual_norm(tokens).to(query.dtype)
        return query.scatter(1, best[..., None].expand_as(tokens), tokens)


@MODELS.register_module()
class HierarchicalFilteringEncoder(DeformableDetrTransformerEncoder):
    """Deformable encoder over nested sets of salient tokens.

    The value of every layer's deformable attention is the encoder's input, all N tokens; only the
    selected tokens are updated, in a running token map.

    Args:
        num_layers: Number of layers.
        layer_cfg: Arguments of :class:`FilteringEncoderLayer`.
        token_filter: Config of the module that selects the tokens.
        background_embedding: Config of the module that embeds the tokens which the last layer did
            not update; None for none.
        num_cp: Layers, from the first, whose activations are computed twice to save memory.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: The token filter does not have one ratio per layer, or ``num_cp`` is larger than
            the number of layers.
    """

    def __init__(
        self,
        num_layers: int,
        layer_cfg: dict,
        token_filter: dict,
        background_embedding: dict | None = None,
        num_cp: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        check_num_cp(num_cp, num_layers, 'encoder')
        super().__init__(num_layers, layer_cfg, num_cp=num_cp, init_cfg=init_cfg)
        self.token_filter = MODELS.build(token_filter)
        self.background_embedding = (
            MODELS.build(background_embedding) if background_embedding else None
        )
        ratios = self.token_filter.layer_ratios
        if len(ratios) != num_layers:
            raise ValueError(
                f'encoder.token_filter.layer_ratios has {len(ratios)} entries for '
                f'{num_layers} encoder layers; give one ratio per layer.'
            )

    def _init_layers(self) -> None:
        """Build the layers."""
        self.layers = ModuleList(
            FilteringEncoderLayer(**self.layer_cfg) for _ in range(self.num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims

    def forward(
        self,
        tokens: FeatureTokens,
        salience: Sequence[Tensor],
        class_branches: Sequence[nn.Module],
    ) -> EncoderOutput:
        """Encode the tokens.

        Args:
            tokens: Tokens of the batch.
            salience: Salience logits (B, 1, H, W) of each level.
            class_branches: For each layer the class head that ranks its tokens, maps (B, K, C) to
                class logits.

        Returns:
            All tokens after the last layer, and which of them each layer updated.
        """
        selection = self.token_filter(salience, tokens.padding_mask, tokens.geometry)
        num_tokens = tokens.geometry.num_tokens
        memory, pos, centers = tokens.feat, tokens.pos, tokens.centers
        if not selection.is_even:  # one more row receives what unused slots compute
            memory, pos, centers = append_row(memory), append_row(pos), append_row(centers)
        pos = gather_tokens(pos, selection.indices)
        centers = gather_tokens(centers, selection.indices)
        references = centers[:, :, None] * tokens.valid_ratios[:, None]  # (B, K, L, 2)
        for number, (layer, branch) in enumerate(zip(self.layers, class_branches, strict=True)):
            indices = selection.layer_indices(number, num_tokens)
            size = indices.size(1)
            query = gather_tokens(memory, indices)
            unused = None if selection.is_even else indices == num_tokens
            updated = call_layer(
                layer,
                number < self.num_cp,
                query,
                query_pos=pos[:, :size],
                ranking=rank_tokens(query, selection.scores[:, :size], branch, unused),
                unused=unused,
                value=tokens.feat,
                key_padding_mask=tokens.padding_mask,
                reference_points=references[:, :size],
                spatial_shapes=tokens.spatial_shapes,
                level_start_index=tokens.level_start_index,
            )
            places = indices[..., None].expand_as(updated)
            memory = memory.scatter(1, places, updated.to(memory.dtype))
        memory = memory[:, :num_tokens]
        if self.background_embedding is not None:
            background = self.background_embedding(tokens.geometry)
            memory = memory + background.masked_fill(
                left_out(tokens.padding_mask, indices)[..., None].logical_not(), 0
            )
        return EncoderOutput(memory, selection)


def append_row(tokens: Tensor) -> Tensor:
    """Append a row of zeros to tokens (B, N, C); returns (B, N + 1, C)."""
    return torch.cat((tokens, tokens.new_zeros(tokens.size(0), 1, tokens.size(2))), dim=1)


def left_out(padding_mask: Tensor, indices: Tensor) -> Tensor:
    """Valid tokens that were not selected.

    Args:
        padding_mask: True for padded tokens, (B, N).
        indices: Selected tokens, (B, K); N marks unused slots.

    Returns:
        (B, N), True where valid and not selected.
    """
    candidates = torch.cat((~padding_mask, padding_mask.new_zeros(padding_mask.size(0), 1)), dim=1)
    return candidates.scatter(1, indices, 0)[:, :-1]  # False could not be traced


@torch.no_grad()
def rank_tokens(
    query: Tensor,
    salience: Tensor,
    class_branch: nn.Module,
    unused: Tensor | None,
) -> Tensor:
    """Rank tokens by their best class logit times their salience logit.

    Args:
        query: Tokens, (B, K, C).
        salience: Salience logits, (B, K).
        class_branch: Class head.
        unused: True for unused slots, (B, K), or None.

    Returns:
        (B, K); -inf for unused slots.
    """
    ranking = full_precision(class_branch, query).max(dim=-1).values * salience
    return ranking if unused is None else ranking.masked_fill(unused, -torch.inf)
