"""The runner, which fits a config to its data, and hooks of training."""

from .class_fit import fit_classes
from .data_fit import fit_to_data
from .hooks import SalienceVisualizationHook
from .runner import DataFittingRunner

__all__ = ['DataFittingRunner', 'SalienceVisualizationHook', 'fit_classes', 'fit_to_data']
