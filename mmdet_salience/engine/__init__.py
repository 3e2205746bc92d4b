"""The runner, which fits a config to its data."""

from .class_fit import fit_classes
from .data_fit import fit_to_data
from .runner import DataFittingRunner

__all__ = ['DataFittingRunner', 'fit_classes', 'fit_to_data']
