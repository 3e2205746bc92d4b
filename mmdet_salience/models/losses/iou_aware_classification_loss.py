"""IoU-aware classification loss (varifocal with IoU targets)."""

import torch.nn.functional as F
from mmdet.models.losses import QualityFocalLoss, weight_reduce_loss
from mmdet.registry import MODELS
from torch import Tensor


def iou_aware_loss(
    logits: Tensor, labels: Tensor, ious: Tensor, alpha: float = 0.75, gamma: float = 2.0
) -> Tensor:
    """Varifocal loss whose positive target is the IoU of the matched prediction.

    With p = sigmoid(logits), detached, and q the IoU for the matched class, 0 elsewhere:
    ``[alpha p^gamma (class is not the matched one) + q] * BCE(logits, q)``.

    Args:
        logits: Class scores before the sigmoid, (M, K).
        labels: Matched class of each prediction, (M,); K for background.
        ious: IoU of each prediction with its matched object, (M,); 0 for background.
        alpha: Weight of the negatives.
        gamma: Focusing exponent of the negatives.

    Returns:
        Loss of each element, (M, K).
    """
    num_classes = logits.size(-1)
    matched = F.one_hot(labels, num_classes + 1)[:, :num_classes].to(logits)
    target = matched * ious[:, None].to(logits)
    prob = logits.detach().sigmoid()
    weight = alpha * prob**gamma * (1 - matched) + target
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction='none')


@MODELS.register_module()
class IoUAwareClassificationLoss(QualityFocalLoss):
    """Classification loss of Salience DETR, as in the authors' release.

    It derives from :class:`mmdet.models.losses.QualityFocalLoss` because mmdet's DETR heads hand
    IoU targets, ``(labels, ious)``, to losses of that kind.

    Args:
        alpha: Weight of the negatives.
        gamma: Focusing exponent of the negatives.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the loss.
    """

    def __init__(
        self,
        alpha: float = 0.75,
        gamma: float = 2.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(beta=gamma, reduction=reduction, loss_weight=loss_weight)
        self.alpha = alpha
        self.gamma = gamma

    def forward(
        self,
        pred: Tensor,
        target: tuple[Tensor, Tensor],
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred: Class scores before the sigmoid, (M, K).
            target: Matched classes (M,), K for background, and IoUs (M,).
            weight: Weight of each prediction, (M,).
            avg_factor: Divisor of the summed loss.
            reduction_override: Replaces ``reduction`` for this call.

        Returns:
            Scalar loss, or (M, K) without reduction.
        """
        labels, ious = target
        loss = iou_aware_loss(pred, labels, ious, self.alpha, self.gamma)
        if weight is not None:
            weight = weight[:, None]
        if isinstance(avg_factor, Tensor):
            avg_factor = avg_factor.squeeze()  # mmdet's synchronised factor has shape (1,)
        reduction = reduction_override or self.reduction
        return self.loss_weight * weight_reduce_loss(loss, weight, reduction, avg_factor)

    def extra_repr(self) -> str:
        """Show the arguments when the module is printed."""
        return f'alpha={self.alpha}, gamma={self.gamma}, loss_weight={self.loss_weight}'
