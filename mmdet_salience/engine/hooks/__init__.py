"""Hooks of training."""

from .annealed_ema_hook import AnnealedEMAHook
from .durable_checkpoint_hook import DurableCheckpointHook
from .non_finite_loss_hook import NonFiniteLossHook
from .salience_visualization_hook import SalienceVisualizationHook
from .skipped_images_hook import SkippedImagesHook

__all__ = [
    'AnnealedEMAHook',
    'DurableCheckpointHook',
    'NonFiniteLossHook',
    'SalienceVisualizationHook',
    'SkippedImagesHook',
]
