"""Precision and recall over the score, COCO's average precision, and the best threshold.

Shapes: D detections of a class, 101 recalls from 0 to 1.
"""

from typing import NamedTuple

import numpy as np

RECALLS = np.linspace(0, 1, 101)


class Curve(NamedTuple):
    """Precision and recall of the best detections, one after the other.

    Attributes:
        scores: Scores, highest first, (D,).
        precision: Share of correct ones among the detections up to each, (D,).
        recall: Share of the objects found by them, (D,).
    """

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


class Optimum(NamedTuple):
    """Where F1, the harmonic mean of precision and recall, is largest.

    Attributes:
        score: Detections from this score on are kept.
        f1: F1 of these.
        precision: Their precision.
        recall: Their recall.
    """

    score: float
    f1: float
    precision: float
    recall: float


def precision_recall(scores: np.ndarray, correct: np.ndarray, num_objects: int) -> Curve:
    """Follow precision and recall down the scores.

    Args:
        scores: Score of each detection, (D,); ignored ones are left out by the caller.
        correct: Whether it found an object, (D,) bool.
        num_objects: Objects there are to find.

    Returns:
        The curve; recall is 0 without objects. Equal scores keep their order, as in COCO.
    """
    order = np.argsort(-np.asarray(scores, dtype=float), kind='stable')
    found = np.cumsum(np.asarray(correct, dtype=bool)[order])
    precision = found / np.arange(1, len(order) + 1)
    return Curve(np.asarray(scores, dtype=float)[order], precision, found / max(num_objects, 1))


def interpolate(curve: Curve) -> np.ndarray:
    """Best precision at each recall or beyond, which COCO averages.

    Args:
        curve: The curve.

    Returns:
        Precision at ``RECALLS``, 0 where the recall is never reached, (101,).
    """
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    places = np.searchsorted(curve.recall, RECALLS, side='left')
    return np.append(envelope, 0.0)[places]


def average_precision(curve: Curve) -> float:
    """COCO's average precision at one IoU threshold, 0..1."""
    return float(interpolate(curve).mean())


def best_f1(curve: Curve) -> Optimum | None:
    """Find the score threshold with the largest F1.

    Args:
        curve: The curve.

    Returns:
        The threshold, the highest of equally good ones; None if no detection is correct.
    """
    # A threshold cannot part equal scores: only the last of them is a choice.
    last = np.append(curve.scores[1:] != curve.scores[:-1], True)[: len(curve.scores)]
    precision, recall = curve.precision[last], curve.recall[last]
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    if not f1.any():
        return None
    best = int(f1.argmax())
    values = (curve.scores[last], f1, precision, recall)
    return Optimum(*(float(value[best]) for value in values))
