"""Loss of the salience predictor."""

import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from torch import Tensor, nn


def soft_focal_loss(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss for targets between 0 and 1, element by element.

    With p = sigmoid(logits) and target y the loss is
    ``[(1 - alpha) p^gamma (1 - y) + alpha (1 - p)^gamma y] * BCE(logits, y)``. The bracket is
    differentiated too (as in the authors' release).

    Args:
        logits: Scores before the sigmoid, any shape.
        targets: Soft targets in [0, 1], the shape of ``logits``.
        alpha: Weight of the foreground; the background has 1 - alpha.
        gamma: Focusing exponent.

    Returns:
        Loss of each element, the shape of ``logits``.
    """
    prob = logits.sigmoid()
    weight = (1 - alpha) * prob**gamma * (1 - targets) + alpha * (1 - prob) ** gamma * targets
    return weight * F.binary_cross_entropy_with_logits(logits, targets, reduction='none')


@MODELS.register_module()
class SalienceLoss(nn.Module):
    """Focal loss on soft salience targets (paper section 3.2, release's salience criterion).

    The sum over the whole batch and all tokens is divided by the number of tokens with a positive
    target (the mean over ranks, at least 1).

    Args:
        alpha: Weight of the foreground.
        gamma: Focusing exponent.
        loss_weight: Factor of the loss.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, loss_weight: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: Predicted salience before the sigmoid, (B, N).
            targets: Salience targets in [0, 1], (B, N).

        Returns:
            Scalar loss.
        """
        loss = soft_focal_loss(logits, targets, self.alpha, self.gamma).sum()
        num_salient = reduce_mean((targets > 0).sum().to(loss)).clamp(min=1)
        return self.loss_weight * loss / num_salient

    def extra_repr(self) -> str:
        """Show the arguments when the module is printed."""
        return f'alpha={self.alpha}, gamma={self.gamma}, loss_weight={self.loss_weight}'
