"""Foreground loss of Focus-DETR."""

from mmdet.registry import MODELS
from torch import Tensor

from .salience_loss import SalienceLoss, soft_focal_loss


@MODELS.register_module()
class ForegroundLoss(SalienceLoss):
    """Focal loss on binary foreground targets, image by image (Focus-DETR, spec section 12).

    The sum over an image's tokens is divided by its positive tokens (at least 1); the mean over the
    batch is the loss.

    Args:
        alpha: Weight of the foreground.
        gamma: Focusing exponent.
        loss_weight: Factor of the loss.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, loss_weight: float = 1.5) -> None:
        super().__init__(alpha, gamma, loss_weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: Predicted scores before the sigmoid, (B, N).
            targets: 0 or 1, (B, N).

        Returns:
            Scalar loss.
        """
        loss = soft_focal_loss(logits, targets, self.alpha, self.gamma).sum(dim=1)
        return self.loss_weight * (loss / targets.sum(dim=1).clamp(min=1)).mean()
