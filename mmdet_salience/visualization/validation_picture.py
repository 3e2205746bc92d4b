"""One picture of what a detector makes of an image: ground truth, detections, salience.

Images are (H, W, 3) uint8 RGB arrays, boxes are (N, 4) ``x1, y1, x2, y2`` in image pixels.
"""

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np

from .salience import BLACK, WHITE, Color, draw_detections, overlay_heatmap

BoxArrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (N, 4), class indices (N,) and scores (N,)."""

TITLE_HEIGHT = 28
GAP = 6
MIN_CELL_WIDTH = 260  # the titles need as much


def validation_picture(
    image: np.ndarray,
    truth: BoxArrays,
    found: BoxArrays,
    heat: np.ndarray | None,
    classes: Sequence[str],
    palette: Sequence[Color],
    score_thr: float = 0.3,
    max_side: int = 800,
) -> np.ndarray:
    """Draw ground truth, detections and salience of an image side by side.

    Args:
        image: The image, RGB, (H, W, 3), uint8.
        truth: The annotated objects.
        found: The detected objects.
        heat: Salience in 0..1, (H, W); None leaves its cell out.
        classes: Class names.
        palette: RGB colour of each class.
        score_thr: Detections below this score are left out.
        max_side: A larger image is drawn with this many pixels at its longer side.

    Returns:
        The picture, (H', W', 3), uint8; two or three titled cells from left to right.

    Raises:
        ValueError: A label has no class name or no colour.
    """
    image, heat, scale = _shrink(image, heat, max_side)
    style = classes, palette, score_thr
    nothing = np.zeros((0, 4)), np.zeros(0, dtype=int), np.zeros(0)
    gt_bboxes, gt_labels = truth[0] * scale, truth[1]
    detected = found[0] * scale, found[1], found[2]
    cells = [
        ('ground truth', draw_detections(image, *nothing, *style, gt_bboxes, gt_labels)),
        (f'detections, score >= {score_thr:g}', draw_detections(image, *detected, *style)),
    ]
    if heat is not None:
        cells.append(('salience', draw_detections(overlay_heatmap(image, heat), *nothing, *style)))
    gap = np.full((cells[0][1].shape[0] + TITLE_HEIGHT, GAP, 3), WHITE, dtype=np.uint8)
    parts = [part for title, cell in cells for part in (_with_title(cell, title), gap)]
    return np.concatenate(parts[:-1], axis=1)


def _shrink(
    image: np.ndarray, heat: np.ndarray | None, max_side: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Shrink an image and its map; returns them with the factors of boxes (x, y, x, y), (4,)."""
    height, width = image.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        heat = None if heat is None else cv2.resize(heat, size, interpolation=cv2.INTER_AREA)
    return image, heat, np.tile(np.array(size) / (width, height), 2)


def _with_title(cell: np.ndarray, title: str) -> np.ndarray:
    """Put a strip with a title above a cell, which becomes wide enough for it."""
    missing = max(0, MIN_CELL_WIDTH - cell.shape[1])
    framed = np.pad(cell, ((TITLE_HEIGHT, 0), (0, missing), (0, 0)), constant_values=WHITE[0])
    place = (4, TITLE_HEIGHT - 9)
    cv2.putText(framed, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, BLACK, 1, cv2.LINE_AA)
    return framed
