"""DINO as published, on every version of mmdet."""

from copy import deepcopy

from mmdet.models.detectors import DINO
from mmdet.registry import MODELS

from ..layers.decoder import SalienceDecoder


@MODELS.register_module()
class PublishedDINO(DINO):
    """mmdet's ``DINO`` with the query-position head of the published weights.

    The head takes C/2 sine features for each of a box's four numbers. Recent mmdet versions take C
    for each, which is another model: published weights do not fit it.
    """

    def _init_layers(self) -> None:
        """Build mmdet's layers, then the decoder of the published model."""
        decoder = deepcopy(self.decoder)
        super()._init_layers()
        self.decoder = SalienceDecoder(**decoder)
