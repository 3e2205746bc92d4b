"""Which classes a detector takes for each other.

Shapes: D detections, G objects, K classes.
"""

from typing import NamedTuple

import numpy as np

from .detection_errors import IOU_FOUND, DetectionErrors
from .detection_table import DetectionTable
from .matching import pairwise_iou


class ConfusablePairs(NamedTuple):
    """Detections that cover an object of another class, the best detection first.

    Attributes:
        rows: Rows of the detections, (P,).
        objects: Rows of the objects, (P,).
    """

    rows: np.ndarray
    objects: np.ndarray


def find_confusable(
    table: DetectionTable, errors: DetectionErrors, iou_thr: float = IOU_FOUND
) -> ConfusablePairs:
    """Find the detections that found nothing and cover an object of another class.

    Args:
        table: Detections and objects.
        errors: Which detections are correct, and which are ignored.
        iou_thr: Least IoU with the object.

    Returns:
        The pairs in the order in which they choose: by score, then by IoU, highest first.
    """
    false = ~errors.is_kind('correct', 'ignored')
    found_pairs: list[np.ndarray] = [np.zeros((0, 3))]  # detection, object, IoU
    for image in range(table.num_images):
        found, there = table.detections_of(image), table.objects_of(image)
        iou = pairwise_iou(table.bboxes[found], table.gt_bboxes[there])
        iou[~false[found]] = 0
        iou[:, table.gt_crowd[there]] = 0
        iou[table.labels[found, None] == table.gt_labels[None, there]] = 0
        first, second = np.nonzero(iou >= iou_thr)
        columns = (first + found.start, second + there.start, iou[first, second])
        found_pairs.append(np.stack(columns, axis=1))
    numbers, overlaps = np.split(np.concatenate(found_pairs), [2], axis=1)
    rows, objects = numbers.astype(int).T
    order = np.lexsort((-overlaps[:, 0], rows, -table.scores[rows]))
    return ConfusablePairs(rows[order], objects[order])


def confusion_matrix(
    table: DetectionTable,
    errors: DetectionErrors,
    pairs: ConfusablePairs,
    num_classes: int,
    score_thr: float,
) -> np.ndarray:
    """Count what the objects were taken for.

    First each object goes to the detection of its class that found it, as in COCO. Then the
    detections that are left choose, best first, among the objects of other classes that are left.

    Args:
        table: Detections and objects.
        errors: Which detection found which object.
        pairs: Detections that may be taken for another class, from :func:`find_confusable`.
        num_classes: Number of classes.
        score_thr: Detections below this score are dropped.

    Returns:
        Counts, (K + 1, K + 1): class of the object in rows, of the detection in columns. The last
        column counts objects that nothing was found for, the last row false detections that
        cover no object that is left.
    """
    kept = (table.scores >= score_thr) & ~errors.is_kind('ignored')
    detected = np.full(len(table.gt_labels), num_classes)  # class, `num_classes` for none
    found = errors.found_scores >= score_thr
    detected[found] = table.gt_labels[found]
    alone = kept & ~errors.is_kind('correct')
    for row, target in zip(pairs.rows.tolist(), pairs.objects.tolist(), strict=True):
        if alone[row] and detected[target] == num_classes:
            alone[row] = False
            detected[target] = table.labels[row]
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=int)
    objects = ~table.gt_crowd
    np.add.at(matrix, (table.gt_labels[objects], detected[objects]), 1)
    np.add.at(matrix, (num_classes, table.labels[alone]), 1)
    return matrix
