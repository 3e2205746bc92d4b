"""Models by their names, inference with them, and the arrays behind their detections."""

from ..utils.config_text import load_checkpoint_config
from .detection import ImageResult, detect_images, iter_detections
from .inferencer import DetInferencer
from .inspection import (
    ImageInspection,
    Objects,
    QueryPoints,
    inspect_dataset_image,
    inspect_image,
)
from .model_zoo import ZooModel, find_model, list_models

__all__ = [
    'DetInferencer',
    'ImageInspection',
    'ImageResult',
    'Objects',
    'QueryPoints',
    'ZooModel',
    'detect_images',
    'find_model',
    'inspect_dataset_image',
    'inspect_image',
    'iter_detections',
    'list_models',
    'load_checkpoint_config',
]
