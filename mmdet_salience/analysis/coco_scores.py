"""COCO's own evaluation (pycocotools) of arrays: precision, and which detection found what.

Shapes: D detections, G objects, T IoU thresholds, R recalls, K classes, A ranges of area.
"""

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .detection_table import DetectionTable

MAX_DETECTIONS = 100
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = ('all', 'small', 'medium', 'large')


class CocoScores(NamedTuple):
    """Result of COCO's evaluation.

    Attributes:
        precision: Precision at 101 recalls, -1 for classes without objects, (T, R, K, A).
        matches: Row of the object that each detection found, -1 for none, (T, D).
        ignored: Detections that do not count, as they found a crowd or come after the best
            100 of their class in the image, (T, D).
    """

    precision: np.ndarray
    matches: np.ndarray
    ignored: np.ndarray

    def mean(
        self, label: int | None = None, area: str = 'all', iou: float | None = None
    ) -> float | None:
        """Average precision.

        Args:
            label: A class; None for the mean over all that have objects.
            area: One of ``AREA_RANGES``.
            iou: An IoU threshold; None for the mean over all of 0.50 to 0.95.

        Returns:
            AP in 0..1, None without objects.
        """
        values = self.precision[..., AREA_RANGES.index(area)]
        if label is not None:
            values = values[:, :, label]
        if iou is not None:
            values = values[np.abs(IOU_THRESHOLDS - iou).argmin()]
        values = values[values > -1]
        return float(values.mean()) if values.size else None


def evaluate_coco(
    table: DetectionTable, num_classes: int, max_detections: int = MAX_DETECTIONS
) -> CocoScores:
    """Evaluate detections as COCO does, with pycocotools.

    Objects are numbered anew: pycocotools takes a detection of an object with the id 0 for false.

    Args:
        table: Detections and objects.
        num_classes: Number of classes.
        max_detections: Detections of a class that count in an image, the best ones.

    Returns:
        Precision and matches.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = _index(table.num_images, num_classes, _entries(table, objects=True))
        found = _index(table.num_images, num_classes, _entries(table, objects=False))
        evaluation = COCOeval(truth, found, 'bbox')
        evaluation.params.iouThrs = IOU_THRESHOLDS
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    matches = np.full((len(IOU_THRESHOLDS), len(table.scores)), -1)
    ignored = np.ones_like(matches, dtype=bool)
    all_sizes = evaluation.params.areaRng[AREA_RANGES.index('all')]
    for entry in evaluation.evalImgs:
        if entry is None or entry['aRng'] != all_sizes:
            continue
        rows = np.array(entry['dtIds'], dtype=int) - 1
        matches[:, rows] = entry['dtMatches'].astype(int) - 1
        ignored[:, rows] = entry['dtIgnore']
    return CocoScores(evaluation.eval['precision'][..., 0], matches, ignored)


def _entries(table: DetectionTable, objects: bool) -> list[dict[str, Any]]:
    """Write objects or detections in COCO's way, ids from 1 in the order of the table."""
    if objects:
        images, bboxes, labels = table.gt_images, table.gt_bboxes, table.gt_labels
        areas, key, values = table.gt_areas, 'iscrowd', table.gt_crowd.astype(int)
    else:
        images, bboxes, labels = table.images, table.bboxes, table.labels
        areas = (bboxes[:, 2:] - bboxes[:, :2]).prod(axis=1)
        key, values = 'score', table.scores
    sizes = bboxes[:, 2:] - bboxes[:, :2]
    columns = (images, labels, np.hstack([bboxes[:, :2], sizes]), areas, values)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        {'id': i, 'image_id': n + 1, 'category_id': k + 1, 'bbox': box, 'area': area, key: value}
        for i, (n, k, box, area, value) in enumerate(rows, start=1)
    ]


def _index(num_images: int, num_classes: int, annotations: list[dict[str, Any]]) -> COCO:
    """Build pycocotools' index of annotations; ids of images and classes count from 1."""
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=i + 1) for i in range(num_images)],
        categories=[dict(id=k + 1) for k in range(num_classes)],
        annotations=annotations,
    )
    coco.createIndex()
    return coco
