"""Which detection found which annotated object.

Shapes: N detections, M annotated objects.
"""

from typing import NamedTuple

import numpy as np


def match_detections(
    bboxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    gt_bboxes: np.ndarray,
    gt_labels: np.ndarray,
    iou_thr: float = 0.5,
) -> np.ndarray:
    """Give each detection the object that it found, as COCO's evaluation does.

    Detections choose in the order of their scores, equal scores in the given order. Each takes the
    object of its class that overlaps it most, among those that no better detection took.

    Args:
        bboxes: Detected boxes (x1, y1, x2, y2) in pixels, (N, 4).
        labels: Class index of each, (N,).
        scores: Score of each, (N,).
        gt_bboxes: Annotated boxes, (M, 4).
        gt_labels: Class index of each, (M,).
        iou_thr: Least IoU of a detection with its object, in (0, 1].

    Returns:
        For each detection the index of its object, or -1, (N,), int64. Objects that are not in it
        were missed. As the better ones choose first, dropping detections below a score changes
        nothing for the others.

    Raises:
        ValueError: ``iou_thr`` lies outside (0, 1], or boxes, labels and scores differ in number.
    """
    if not 0 < iou_thr <= 1:
        raise ValueError(f'iou_thr must lie in (0, 1], got {iou_thr}')
    if not len(bboxes) == len(labels) == len(scores) or len(gt_bboxes) != len(gt_labels):
        raise ValueError(
            f'each box needs a label, and each detection a score, got {len(bboxes)} boxes, '
            f'{len(labels)} labels and {len(scores)} scores of detections, '
            f'{len(gt_bboxes)} boxes and {len(gt_labels)} labels of objects'
        )
    matches = np.full(len(bboxes), -1, dtype=np.int64)
    overlaps = pairwise_iou(bboxes, gt_bboxes)
    overlaps[np.asarray(labels)[:, None] != np.asarray(gt_labels)[None]] = 0
    overlaps[overlaps < iou_thr] = 0
    order = np.argsort(-np.asarray(scores, dtype=float), kind='stable')
    for index in order[overlaps[order].any(axis=1)]:
        best = overlaps[index].argmax()
        if overlaps[index, best] > 0:
            matches[index] = best
            overlaps[:, best] = 0  # taken
    return matches


def pairwise_iou(bboxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of all pairs.

    Args:
        bboxes: Boxes (x1, y1, x2, y2), (N, 4).
        others: Boxes, (M, 4).

    Returns:
        IoUs in 0..1, 0 where both boxes are without area, (N, M), float64.
    """
    first = np.asarray(bboxes, dtype=float).reshape(-1, 1, 4)
    second = np.asarray(others, dtype=float).reshape(1, -1, 4)
    corner = np.minimum(first[..., 2:], second[..., 2:])
    shared = (corner - np.maximum(first[..., :2], second[..., :2])).clip(0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


class MatchCounts(NamedTuple):
    """How an image's detections and objects agree.

    Attributes:
        objects: Annotated objects.
        found: Those that a detection found.
        missed: The others.
        false: Detections that found no object.
    """

    objects: int
    found: int
    missed: int
    false: int


def count_matches(
    matches: np.ndarray, scores: np.ndarray, num_objects: int, score_thr: float
) -> MatchCounts:
    """Count found and missed objects and false detections.

    Args:
        matches: What :func:`match_detections` returned for detections of any score, (N,).
        scores: Their scores, (N,).
        num_objects: Annotated objects.
        score_thr: Detections below this score do not count.

    Returns:
        The counts.
    """
    certain = np.asarray(matches)[np.asarray(scores) >= score_thr]
    found = int((certain >= 0).sum())
    return MatchCounts(num_objects, found, num_objects - found, len(certain) - found)
