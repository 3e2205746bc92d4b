"""Models by their names, and inference with them."""

from .inferencer import DetInferencer
from .model_zoo import ZooModel, find_model, list_models

__all__ = ['DetInferencer', 'ZooModel', 'find_model', 'list_models']
