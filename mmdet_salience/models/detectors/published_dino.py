"""DINO as published, on every version of mmdet."""

from copy import deepcopy
from typing import Any

from mmdet.models.detectors import DINO
from mmdet.registry import MODELS

from ...utils.checkpoints import fit_in_place
from ..layers.decoder import SalienceDecoder
from .class_following import ClassFollowing


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

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Accept other classes wherever weights are loaded."""
        fit_in_place(state_dict, self, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
