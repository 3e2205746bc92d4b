"""Losses."""

from .iou_aware_classification_loss import IoUAwareClassificationLoss
from .salience_loss import SalienceLoss

__all__ = ['IoUAwareClassificationLoss', 'SalienceLoss']
