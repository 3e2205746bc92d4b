"""The runner, which fits a config to its data, and hooks of training."""

from .checked_images import CheckedImagesRunner
from .class_fit import fit_classes
from .data_fit import fit_to_data
from .hooks import (
    AnnealedEMAHook,
    NonFiniteLossHook,
    SalienceVisualizationHook,
    SkippedImagesHook,
)
from .optim import ByNameOptimWrapperConstructor, FirstEpochWarmupLR
from .runner import DataFittingRunner

__all__ = [
    'AnnealedEMAHook',
    'ByNameOptimWrapperConstructor',
    'CheckedImagesRunner',
    'DataFittingRunner',
    'FirstEpochWarmupLR',
    'NonFiniteLossHook',
    'SalienceVisualizationHook',
    'SkippedImagesHook',
    'fit_classes',
    'fit_to_data',
]
