"""What each type of error costs: the AP50 gained if only that type were fixed, as TIDE defines it.

Following Bolya et al., ECCV 2020 (see :mod:`.detection_errors` for the types), a fix means:

* localisation, classification: the best such detection of an object that was not found becomes
  correct, in the object's class; the other such detections are removed;
* both, duplicate, background: the detections are removed;
* missed: the objects are taken from those that are to be found.

``all_false`` removes every false detection, ``all_missed`` every object that was not found.

Two rules differ from the authors' program. There, a fix of one type gives way to a better detection
of the other type about the same object; here each type is fixed on its own. And a class that is
left without any object counts 1 without detections and 0 with them, where the program counts 0.

Shapes: D detections, G objects, K classes.
"""

from typing import NamedTuple

import numpy as np

from .detection_errors import ERRORS, FALSE_KINDS, DetectionErrors
from .detection_table import DetectionTable
from .precision_recall import average_precision, precision_recall

GAINS = (*ERRORS, 'all_false', 'all_missed')


class Outcome(NamedTuple):
    """A test as it is, or as it would be after a fix.

    Attributes:
        labels: Class of each detection, (D,).
        correct: Whether it found an object, (D,).
        kept: Whether it counts, (D,).
        num_objects: Objects of each class that are to be found, (K,).
    """

    labels: np.ndarray
    correct: np.ndarray
    kept: np.ndarray
    num_objects: np.ndarray


def gain_of_fixes(
    table: DetectionTable, errors: DetectionErrors, num_classes: int
) -> dict[str, float | None]:
    """Compute how much AP50 would grow if one type of error were fixed.

    Args:
        table: Detections and objects.
        errors: Their types.
        num_classes: Number of classes.

    Returns:
        The gain, 0..1, for each of ``GAINS``; None without objects.
    """
    objects = np.bincount(table.gt_labels[~table.gt_crowd], minlength=num_classes)
    if not objects.any():
        return dict.fromkeys(GAINS)
    now = Outcome(
        table.labels, errors.is_kind('correct'), ~errors.is_kind('ignored'), num_objects=objects
    )
    base = _mean_ap50(table.scores, now, objects)
    fixed = {name: _fix(name, now, table, errors) for name in GAINS}
    return {name: _mean_ap50(table.scores, fixed[name], objects) - base for name in GAINS}


def _fix(name: str, now: Outcome, table: DetectionTable, errors: DetectionErrors) -> Outcome:
    """Fix one of ``GAINS``."""
    if name in ('localisation', 'classification'):
        repaired = _repaired(table, errors, name)
        labels = np.where(repaired, table.gt_labels[errors.targets], now.labels)
        kept = now.kept & (repaired | ~errors.is_kind(name))
        return now._replace(labels=labels, correct=now.correct | repaired, kept=kept)
    if name in FALSE_KINDS:
        return now._replace(kept=now.kept & ~errors.is_kind(name))
    if name == 'all_false':
        return now._replace(kept=now.correct)
    gone = ~table.gt_crowd & (errors.found_scores == -np.inf)
    if name == 'missed':
        gone &= errors.near_scores == -np.inf
    lost = np.bincount(table.gt_labels[gone], minlength=len(now.num_objects))
    return now._replace(num_objects=now.num_objects - lost)


def _repaired(table: DetectionTable, errors: DetectionErrors, name: str) -> np.ndarray:
    """Choose the best error of a type about each object that was not found, (D,) bool."""
    rows = np.flatnonzero(errors.is_kind(name))
    rows = rows[errors.found_scores[errors.targets[rows]] == -np.inf]
    rows = rows[np.argsort(-table.scores[rows], kind='stable')]
    _, first = np.unique(errors.targets[rows], return_index=True)
    repaired = np.zeros(len(table.scores), dtype=bool)
    repaired[rows[first]] = True
    return repaired


def _mean_ap50(scores: np.ndarray, outcome: Outcome, objects: np.ndarray) -> float:
    """Mean AP50 of the classes with objects.

    Args:
        scores: Score of each detection, (D,).
        outcome: The test.
        objects: Objects of each class in the data, (K,), at least one.

    Returns:
        The mean over all classes that have objects in the data.
    """
    values = []
    for label in np.flatnonzero(objects):
        rows, number = outcome.kept & (outcome.labels == label), int(outcome.num_objects[label])
        if number:
            curve = precision_recall(scores[rows], outcome.correct[rows], number)
            values.append(average_precision(curve))
        else:
            values.append(float(not rows.any()))
    return float(np.mean(values))
