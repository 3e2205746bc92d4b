"""DINO as published, on every version of mmdet."""

from copy import deepcopy
from typing import Any

import torch
from mmdet.models.detectors import DINO
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor

from ...utils.checkpoints import fit_in_place
from ..layers.decoder import SalienceDecoder
from .class_following import ClassFollowing
from .outputs import InitialQueries


@MODELS.register_module()
class PublishedDINO(ClassFollowing, DINO):
    """mmdet's ``DINO`` with the query-position head of the published weights.

    The head takes C/2 sine features for each of a box's four numbers. Recent mmdet versions take C
    for each, which is another model: published weights do not fit it.
    """

    decoder: Any

    def _init_layers(self) -> None:
        """Build mmdet's layers, then the decoder of the published model."""
        decoder = deepcopy(self.decoder)
        super()._init_layers()
        self.decoder = SalienceDecoder(**decoder)

    @torch.no_grad()
    def initial_queries(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> InitialQueries:
        """Find the tokens that become queries; in evaluation mode.

        Args:
            batch_inputs: Normalised images padded to one size, (B, 3, H, W).
            batch_data_samples: Samples with image sizes.

        Returns:
            The tokens with the best class logits, all of which become queries.
        """
        features = self.extract_feat(batch_inputs)
        encoder_inputs, _ = self.pre_transformer(features, batch_data_samples)
        encoded = self.forward_encoder(**encoder_inputs)
        proposals = self.gen_encoder_output_proposals(**encoded)[0]
        scores = self.bbox_head.cls_branches[self.decoder.num_layers](proposals).amax(dim=-1)
        best = scores.topk(self.num_queries, dim=1).indices
        shapes = tuple((level.size(2), level.size(3)) for level in features)
        return InitialQueries(
            best, best, None, shapes, (batch_inputs.size(2), batch_inputs.size(3))
        )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Accept other classes wherever weights are loaded."""
        fit_in_place(state_dict, self, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
