"""Detectors and images to measure them with."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from ..engine.class_fit import class_counts

COCO_CLASSES = 80


class ImageBatch(NamedTuple):
    """One image as a detector's forward pass takes it.

    Attributes:
        inputs: The normalised and padded image, (1, 3, H, W).
        data_samples: Its sample.
    """

    inputs: Tensor
    data_samples: SampleList


@contextmanager
def quiet_logger() -> Iterator[None]:
    """Keep MMEngine from logging the initialisation of every parameter.

    Yields:
        Nothing; warnings and errors are logged meanwhile.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def fill_classes(model_cfg: dict, num_classes: int) -> None:
    """Set every ``num_classes=None`` of a model's config, in place.

    Args:
        model_cfg: Config of the model.
        num_classes: Classes.
    """
    for _, owner in class_counts(model_cfg):
        if owner['num_classes'] is None:
            owner['num_classes'] = num_classes


def drop_pretrained(node: Any) -> None:
    """Remove pretrained weights from a model's config, in place.

    Neither the work nor the speed of a model depends on them, and they may have to be downloaded.

    Args:
        node: The config, or a part of it.
    """
    if isinstance(node, dict):
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            node['init_cfg'] = None
        described = node.get('config')  # a backbone's, without which its weights describe it
        if isinstance(described, dict) and 'model_type' in described:
            node['pretrained'] = None
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            drop_pretrained(value)


def build_detector(
    cfg: Config, num_classes: int = COCO_CLASSES, checkpoint: str | None = None, seed: int = 0
) -> nn.Module:
    """Build the detector of a config for measurements, on the CPU.

    Args:
        cfg: The config; it stays as it is.
        num_classes: Classes of a model whose config leaves them to the data.
        checkpoint: Path or address of its weights; without, they are initialised at random.
        seed: Seed of that initialisation.

    Returns:
        The detector in evaluation mode.
    """
    register_all_modules()
    import_modules_from_strings(**(cfg.get('custom_imports') or dict(imports=None)))
    model_cfg = copy.deepcopy(cfg.model)
    fill_classes(model_cfg, num_classes)
    drop_pretrained(model_cfg)
    torch.manual_seed(seed)
    with quiet_logger():
        model = MODELS.build(model_cfg)
        if checkpoint is None:
            model.init_weights()
        else:
            load_checkpoint(model, checkpoint, map_location='cpu')
    return model.eval()


def make_image(model: nn.Module, shape: Sequence[int], seed: int = 0) -> ImageBatch:
    """Make an image of noise, padded and normalised as the detector's preprocessor does it.

    Args:
        model: The detector, on the device where it is to run.
        shape: (height, width) of the image in pixels.
        seed: Seed of the noise.

    Returns:
        The batch of one.
    """
    height, width = shape
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (3, height, width), generator=generator).to(torch.uint8)
    metainfo = dict(
        img_id=0,
        img_shape=(height, width),
        ori_shape=(height, width),
        scale_factor=(1.0, 1.0),
    )
    data = dict(inputs=[pixels], data_samples=[DetDataSample(metainfo=metainfo)])
    preprocessor: Any = model.data_preprocessor
    batch = preprocessor(data, False)
    return ImageBatch(batch['inputs'], batch['data_samples'])


@torch.no_grad()
def detect(model: nn.Module, image: ImageBatch) -> SampleList:
    """Detect objects, from the padded image to the final boxes.

    Args:
        model: The detector, in evaluation mode.
        image: The image, on the detector's device.

    Returns:
        The sample with ``pred_instances``.
    """
    return model(image.inputs, image.data_samples, mode='predict')
