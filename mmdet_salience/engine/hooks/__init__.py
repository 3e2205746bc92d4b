"""Hooks of training."""

from .salience_visualization_hook import SalienceVisualizationHook

__all__ = ['SalienceVisualizationHook']
