"""Detections and annotated objects of a whole test, as columns.

Shapes: N detections and M objects of an image, D and G those of all images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class EvaluatedImage(NamedTuple):
    """An image with what was found in it and what is annotated.

    Attributes:
        name: Name to show, such as the file name.
        path: Where the picture can be read.
        bboxes: Detected boxes (x1, y1, x2, y2) in pixels, (N, 4).
        labels: Class index of each, (N,).
        scores: Score of each, (N,).
        gt_bboxes: Annotated boxes, (M, 4).
        gt_labels: Class index of each, (M,).
        gt_areas: Area of each in square pixels, which COCO takes from the mask, (M,).
        gt_crowd: Whether a box holds a crowd, which COCO ignores, (M,) bool.
    """

    name: str
    path: str
    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    gt_bboxes: np.ndarray
    gt_labels: np.ndarray
    gt_areas: np.ndarray
    gt_crowd: np.ndarray


class DetectionTable(NamedTuple):
    """Detections and objects of all images, image after image.

    Attributes:
        num_images: Number of images.
        images: Image of each detection, (D,).
        bboxes: Its box, (D, 4).
        labels: Its class, (D,).
        scores: Its score, (D,).
        gt_images: Image of each object, (G,).
        gt_bboxes: Its box, (G, 4).
        gt_labels: Its class, (G,).
        gt_areas: Its area in square pixels, (G,).
        gt_crowd: Whether it is a crowd, (G,).
    """

    num_images: int
    images: np.ndarray
    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    gt_images: np.ndarray
    gt_bboxes: np.ndarray
    gt_labels: np.ndarray
    gt_areas: np.ndarray
    gt_crowd: np.ndarray

    def detections_of(self, image: int) -> slice:
        """Rows of an image's detections."""
        return slice(*np.searchsorted(self.images, [image, image + 1]).tolist())

    def objects_of(self, image: int) -> slice:
        """Rows of an image's objects."""
        return slice(*np.searchsorted(self.gt_images, [image, image + 1]).tolist())


def join_images(images: Sequence[EvaluatedImage]) -> DetectionTable:
    """Put the detections and objects of images one below the other.

    Args:
        images: The images, at least one.

    Returns:
        The columns; boxes, scores and areas in float64.

    Raises:
        ValueError: There is no image.
    """
    if not images:
        raise ValueError('an evaluation needs at least one image, got none')
    numbers = np.arange(len(images))
    return DetectionTable(
        num_images=len(images),
        images=np.repeat(numbers, [len(image.scores) for image in images]),
        bboxes=np.concatenate([np.reshape(i.bboxes, (-1, 4)) for i in images]).astype(float),
        labels=np.concatenate([image.labels for image in images]).astype(int),
        scores=np.concatenate([image.scores for image in images]).astype(float),
        gt_images=np.repeat(numbers, [len(image.gt_labels) for image in images]),
        gt_bboxes=np.concatenate([np.reshape(i.gt_bboxes, (-1, 4)) for i in images]).astype(float),
        gt_labels=np.concatenate([image.gt_labels for image in images]).astype(int),
        gt_areas=np.concatenate([image.gt_areas for image in images]).astype(float),
        gt_crowd=np.concatenate([image.gt_crowd for image in images]).astype(bool),
    )


def keep_best(labels: np.ndarray, scores: np.ndarray, max_per_class: int) -> np.ndarray:
    """Choose the best detections of each class of an image.

    Args:
        labels: Class of each detection, (N,).
        scores: Score of each, (N,); detections without a finite score are dropped.
        max_per_class: Most detections to keep of a class.

    Returns:
        Their indices in the given order, at most ``max_per_class`` of each class.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    order = np.argsort(-scores, kind='stable')
    order = order[np.isfinite(scores[order])]
    kept = [order[labels[order] == label][:max_per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(kept)) if kept else order
