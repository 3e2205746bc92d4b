"""Focus-DETR (ICCV 2023) from the modules of Salience DETR."""

from mmdet.registry import MODELS
from torch import nn

from .salience_detr import SalienceDETR


@MODELS.register_module()
class FocusDETR(SalienceDETR):
    """Salience DETR whose encoder layers rank tokens by the decoder layers' class branches.

    All else that makes it Focus-DETR is configuration (spec section 12): one budget of tokens for
    all levels, binary foreground supervision, no background embedding, no fusion, no query NMS.
    """

    @property
    def ranking_branches(self) -> list[nn.Module]:
        """For each encoder layer the class branch of the decoder layer with its number.

        Raises:
            ValueError: The encoder has more layers than the decoder.
        """
        num_layers = self.encoder.num_layers
        if num_layers > self.decoder.num_layers:
            raise ValueError(
                f'FocusDETR ranks the tokens of {num_layers} encoder layers by the class branches '
                f'of as many decoder layers, but decoder.num_layers={self.decoder.num_layers}.'
            )
        return list(self.bbox_head.cls_branches[:num_layers])
