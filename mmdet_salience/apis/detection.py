"""Detection in many images of which some may be broken; several threads may share a model."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate

from .image_pipeline import ImagePipeline

Image = str | Path | np.ndarray
"""Path of an image, or a BGR array (H, W, 3), as MMDetection takes it."""


class ImageResult(NamedTuple):
    """What came of one image: detections or an error.

    Attributes:
        path: Its file; empty for an array.
        detections: The sample with ``pred_instances`` in pixels of the image, in the computer's
            memory; None if there is an error.
        error: Why there are no detections, in one line that names the file; None if there are.
    """

    path: str
    detections: DetDataSample | None
    error: str | None


def detect_images(
    model: BaseDetector, images: Iterable[Image], batch_size: int = 4
) -> list[ImageResult]:
    """Detect objects in images; a missing or broken one costs only its own result.

    Args:
        model: A detector from ``mmdet.apis.init_detector``, in evaluation mode.
        images: Paths or arrays, of any sizes.
        batch_size: Images that pass the model together. SalienceDETR and FocusDETR find the same
            in an image whatever its batch-mates.

    Returns:
        A result for each image, in their order.

    Raises:
        ValueError: The model, ``images`` or ``batch_size`` cannot be used.
    """
    return list(iter_detections(model, images, batch_size))


def iter_detections(
    model: BaseDetector, images: Iterable[Image], batch_size: int = 4
) -> Iterator[ImageResult]:
    """Detect objects in images as :func:`detect_images`, one batch at a time.

    Args:
        model: As there.
        images: As there; they are taken and read as they are needed.
        batch_size: As there.

    Returns:
        Iterator over the results, in the images' order; it holds one batch.

    Raises:
        ValueError: The model, ``images`` or ``batch_size`` cannot be used.
    """
    check_arguments(model, images, batch_size)
    pipeline = ImagePipeline(model.cfg)
    return generate_results(model, pipeline, iter(images), batch_size)


def check_arguments(model: BaseDetector, images: Iterable[Image], batch_size: int) -> None:
    """Stop before any image is read; ValueError that says what to give instead."""
    if isinstance(images, (str, Path, np.ndarray)):
        raise ValueError('images must be several paths or arrays; put a single one into a list')
    if batch_size < 1:
        raise ValueError(f'batch_size must be at least 1, got {batch_size}')
    if getattr(model, 'cfg', None) is None:
        raise ValueError('the model has no cfg; take it from mmdet.apis.init_detector')
    if model.training:
        raise ValueError('the model is in training mode; call model.eval() first')


def generate_results(
    model: BaseDetector, pipeline: ImagePipeline, images: Iterator[Image], batch_size: int
) -> Iterator[ImageResult]:
    """Yield the results, batch after batch; arguments as for :func:`iter_detections`."""
    while batch := list(islice(images, batch_size)):
        prepared = [prepare(pipeline, image) for image in batch]
        found = iter(detect(model, [data for data in prepared if not isinstance(data, str)]))
        for image, data in zip(batch, prepared, strict=True):
            path = '' if isinstance(image, np.ndarray) else str(image)
            if isinstance(data, str):
                yield ImageResult(path, None, data)
            else:
                yield ImageResult(path, next(found), None)


def prepare(pipeline: ImagePipeline, image: Image) -> dict[str, Any] | str:
    """Read an image and prepare it for the model; why that fails, in words, if it does."""
    try:
        return pipeline(image)
    except ValueError as error:
        return str(error)


@torch.no_grad()
def detect(model: BaseDetector, prepared: Sequence[dict[str, Any]]) -> list[DetDataSample]:
    """Detect objects in images that have passed the pipeline; none for none."""
    if not prepared:
        return []
    return [sample.cpu() for sample in model.test_step(pseudo_collate(prepared))]
