"""Why detections are wrong: the error types of TIDE.

The definitions are those of Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020, with foreground from IoU 0.5 and background below 0.1. A detection that is not
correct has the first of these types that fits, in the order of the authors' implementation:

* localisation: the best IoU with an object of its class is at least 0.1, but below 0.5;
* classification: the IoU with an object of another class is at least 0.5;
* duplicate: the IoU with an object of its class is at least 0.5, but a better detection has it;
* background: the IoU with every object is below 0.1;
* both: the rest, with an IoU of at least 0.1 and below 0.5 with an object of another class.

An object is missed if no detection found it and none has a localisation or classification error
with it.

Shapes: D detections, G objects, K classes.
"""

from typing import NamedTuple

import numpy as np

from .detection_table import DetectionTable
from .matching import pairwise_iou

IOU_FOUND = 0.5
IOU_BACKGROUND = 0.1
FALSE_KINDS = ('classification', 'localisation', 'both', 'duplicate', 'background')
KINDS = ('ignored', 'correct', *FALSE_KINDS)
ERRORS = (*FALSE_KINDS, 'missed')


class DetectionErrors(NamedTuple):
    """What is right and wrong in a test.

    Attributes:
        kinds: Index of each detection's kind in ``KINDS``, (D,).
        targets: Row of the object that a detection found, or that its localisation or
            classification error is about; -1 for other ones, (D,).
        found_scores: Score of the detection that found each object, -inf if none, (G,).
        near_scores: Best score of the localisation and classification errors about each object,
            -inf if there is none, (G,).
    """

    kinds: np.ndarray
    targets: np.ndarray
    found_scores: np.ndarray
    near_scores: np.ndarray

    def is_kind(self, *names: str) -> np.ndarray:
        """Whether each detection is of one of some kinds, (D,) bool."""
        return np.isin(self.kinds, [KINDS.index(name) for name in names])


def classify_detections(
    table: DetectionTable, matches: np.ndarray, ignored: np.ndarray
) -> DetectionErrors:
    """Find the error type of every detection and every object.

    Args:
        table: Detections and objects.
        matches: Row of the object that each detection found at IoU 0.5, -1 for none, (D,).
        ignored: Detections that do not count, (D,) bool.

    Returns:
        The types.
    """
    kinds = np.full(len(table.scores), KINDS.index('background'))
    targets: np.ndarray = np.full(len(table.scores), -1)
    for image in range(table.num_images):
        found, objects = table.detections_of(image), table.objects_of(image)
        rows = objects.start + np.flatnonzero(~table.gt_crowd[objects])
        if found.start == found.stop or not len(rows):
            continue
        overlaps = pairwise_iou(table.bboxes[found], table.gt_bboxes[rows])
        same = table.labels[found, None] == table.gt_labels[None, rows]
        kinds[found], nearest = _false_kinds(overlaps, same)
        targets[found] = np.where(nearest >= 0, rows[nearest], -1)
    correct = (matches >= 0) & ~ignored
    kinds[correct], kinds[ignored] = KINDS.index('correct'), KINDS.index('ignored')
    targets = np.where(correct, matches, np.where(ignored, -1, targets))
    near = (targets >= 0) & ~correct
    return DetectionErrors(
        kinds,
        targets,
        _best_scores(table, targets, correct),
        _best_scores(table, targets, near),
    )


def _false_kinds(overlaps: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the error types that an image's detections have if they are false.

    Args:
        overlaps: IoUs with the objects, (N, M), M at least 1.
        same: Whether the classes agree, (N, M).

    Returns:
        Index in ``KINDS``, and the object of a localisation or classification error or -1, (N,).
    """
    own, other = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    best_own, best_other = own.max(axis=1), other.max(axis=1)
    conditions = dict(
        localisation=(best_own >= IOU_BACKGROUND) & (best_own < IOU_FOUND),
        classification=best_other >= IOU_FOUND,
        duplicate=best_own >= IOU_FOUND,
        background=overlaps.max(axis=1) < IOU_BACKGROUND,
    )
    numbers = [KINDS.index(name) for name in conditions]
    kinds = np.select(list(conditions.values()), numbers, KINDS.index('both'))
    nearest = np.where(kinds == KINDS.index('localisation'), own.argmax(1), other.argmax(1))
    is_near = np.isin(kinds, [KINDS.index('localisation'), KINDS.index('classification')])
    return kinds, np.where(is_near, nearest, -1)


def _best_scores(table: DetectionTable, targets: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Best score of the chosen detections of each object, -inf where there is none, (G,)."""
    best = np.full(len(table.gt_labels), -np.inf)
    np.maximum.at(best, targets[chosen], table.scores[chosen])
    return best


def count_errors(
    table: DetectionTable, errors: DetectionErrors, score_thr: float
) -> dict[str, int]:
    """Count the errors that are left when weak detections are dropped.

    Args:
        table: Detections and objects.
        errors: Their types.
        score_thr: Detections below this score are dropped; dropping them does not change the type
            of the others.

    Returns:
        A count for each of ``ERRORS``, and for ``'correct'``.
    """
    kept = table.scores >= score_thr
    counts = {k: int((errors.is_kind(k) & kept).sum()) for k in (*FALSE_KINDS, 'correct')}
    untouched = np.maximum(errors.found_scores, errors.near_scores) < score_thr
    counts['missed'] = int((untouched & ~table.gt_crowd).sum())
    return counts
