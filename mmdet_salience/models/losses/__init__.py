"""Losses."""

from .foreground_loss import ForegroundLoss
from .iou_aware_classification_loss import IoUAwareClassificationLoss
from .salience_loss import SalienceLoss

__all__ = ['ForegroundLoss', 'IoUAwareClassificationLoss', 'SalienceLoss']
