"""All figures of an evaluation, from detections and objects to plain numbers for JSON.

Shapes: D detections, G objects, T IoU thresholds, S score thresholds, K classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .coco_scores import AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS, CocoScores, evaluate_coco
from .confusion import confusion_matrix, find_confusable
from .detection_errors import (
    ERRORS,
    FALSE_KINDS,
    IOU_BACKGROUND,
    IOU_FOUND,
    DetectionErrors,
    classify_detections,
    count_errors,
)
from .detection_table import DetectionTable, EvaluatedImage, join_images
from .error_gains import GAINS, gain_of_fixes
from .precision_recall import Curve, Optimum, best_f1, interpolate, precision_recall
from .query_stats import SIZE_LIMITS, SIZES

SCORE_STEPS = 20
FALLBACK_SCORE = 0.3
DIGITS = 4  # of the curves, to keep the file small


class Evaluated(NamedTuple):
    """A test whose detections are judged.

    Attributes:
        table: Detections and objects.
        coco: COCO's evaluation of them.
        errors: Types of the errors.
        classes: Names of the classes.
    """

    table: DetectionTable
    coco: CocoScores
    errors: DetectionErrors
    classes: Sequence[str]

    def curve(self, iou: int, label: int | None = None) -> Curve:
        """Precision and recall at an IoU threshold.

        Args:
            iou: Number of the threshold in ``IOU_THRESHOLDS``.
            label: A class; None for the detections of all classes in one list.

        Returns:
            The curve.
        """
        rows, objects = ~self.coco.ignored[iou], ~self.table.gt_crowd
        if label is not None:
            rows = rows & (self.table.labels == label)
            objects = objects & (self.table.gt_labels == label)
        correct = self.coco.matches[iou, rows] >= 0
        return precision_recall(self.table.scores[rows], correct, int(objects.sum()))


def judge(
    images: Sequence[EvaluatedImage], classes: Sequence[str], max_detections: int = MAX_DETECTIONS
) -> Evaluated:
    """Judge the detections of all images.

    Args:
        images: The images, at least one.
        classes: Names of the classes.
        max_detections: Detections of a class that count in an image.

    Returns:
        The judged test.

    Raises:
        ValueError: There is no image, or a label has no class.
    """
    table = join_images(images)
    for labels in (table.labels, table.gt_labels):
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            raise ValueError(
                f'labels {labels.min()}..{labels.max()} need as many classes, got {len(classes)}'
            )
    coco = evaluate_coco(table, len(classes), max_detections)
    errors = classify_detections(table, coco.matches[0], coco.ignored[0])
    return Evaluated(table, coco, errors, classes)


def best_threshold(test: Evaluated) -> float | None:
    """Score threshold with the best F1 over all classes, rounded down to three digits.

    Args:
        test: The judged test.

    Returns:
        The threshold; None if no detection is correct.
    """
    optimum = best_f1(test.curve(iou=0))
    if optimum is None:
        return None
    return float(np.floor(optimum.score * 1000) / 1000) or optimum.score


def choose_threshold(test: Evaluated) -> float:
    """Score threshold to start with: the best one, or 0.3 if no detection is correct."""
    threshold = best_threshold(test)
    return FALLBACK_SCORE if threshold is None else threshold


def score_steps(*chosen: float | None) -> list[float]:
    """Score thresholds that the page offers: 0 to 0.95 in steps, and the chosen ones."""
    steps = {step / SCORE_STEPS for step in range(SCORE_STEPS)}
    return sorted(steps | {score for score in chosen if score is not None})


def summarize_test(test: Evaluated, score_thr: float) -> dict[str, Any]:
    """Compute all figures.

    Args:
        test: The judged test.
        score_thr: Score threshold that the page starts with.

    Returns:
        Numbers, texts, lists and dictionaries; None stands for what is undefined.
    """
    best = best_threshold(test)
    thresholds = score_steps(score_thr, best)
    crowd = test.table.gt_crowd
    return dict(
        counts=dict(
            images=test.table.num_images,
            objects=int((~crowd).sum()),
            crowds=int(crowd.sum()),
            detections=len(test.table.scores),
        ),
        settings=dict(
            iou_found=IOU_FOUND,
            iou_background=IOU_BACKGROUND,
            score_threshold=score_thr,
            best_threshold=best,
            best_f1=_optimum(best_f1(test.curve(iou=0))),
        ),
        overall=_average_precisions(test.coco, None),
        classes=[_class_figures(test, label) for label in range(len(test.classes))],
        sizes=_size_figures(test, thresholds),
        precision_recall=dict(
            ious=IOU_THRESHOLDS.round(2).tolist(),
            classes=[_class_curves(test, label) for label in range(len(test.classes))],
        ),
        thresholds=thresholds,
        errors=_error_figures(test, thresholds),
        confusion=_confusion_figures(test, thresholds),
    )


def _optimum(optimum: Optimum | None) -> dict[str, float] | None:
    """Write the best threshold for JSON."""
    return None if optimum is None else optimum._asdict()


def _average_precisions(coco: CocoScores, label: int | None) -> dict[str, float | None]:
    """COCO's figures of a class, or the means over all classes."""
    figures = dict(
        ap=coco.mean(label), ap50=coco.mean(label, iou=0.5), ap75=coco.mean(label, iou=0.75)
    )
    return figures | {f'ap_{area}': coco.mean(label, area) for area in AREA_RANGES[1:]}


def _count_sizes(areas: np.ndarray) -> dict[str, int]:
    """Count objects by COCO size; areas in square pixels, (G,)."""
    counts = np.bincount(np.digitize(areas, SIZE_LIMITS), minlength=3)
    return dict(zip(SIZES[:3], counts.tolist(), strict=True))


def _class_figures(test: Evaluated, label: int) -> dict[str, Any]:
    """Average precision, numbers of objects and best threshold of a class."""
    chosen = (test.table.gt_labels == label) & ~test.table.gt_crowd
    return dict(
        name=test.classes[label],
        objects=int(chosen.sum()),
        objects_by_size=_count_sizes(test.table.gt_areas[chosen]),
        **_average_precisions(test.coco, label),
        best_f1=_optimum(best_f1(test.curve(0, label))),
    )


def _class_curves(test: Evaluated, label: int) -> dict[str, Any]:
    """Interpolated precision at 101 recalls of a class, AP and best threshold, by IoU."""
    curves = [test.curve(iou, label) for iou in range(len(IOU_THRESHOLDS))]
    known = bool(((test.table.gt_labels == label) & ~test.table.gt_crowd).any())
    precisions = [interpolate(curve) for curve in curves]
    return dict(
        name=test.classes[label],
        ap=[float(precision.mean()) if known else None for precision in precisions],
        precision=[precision.round(DIGITS).tolist() for precision in precisions] if known else [],
        best_f1=[_optimum(best_f1(curve)) for curve in curves],
    )


def _size_figures(test: Evaluated, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """Objects, average precision and objects found by COCO size."""
    objects = ~test.table.gt_crowd
    sizes = np.digitize(test.table.gt_areas, SIZE_LIMITS)
    figures = []
    for number, size in enumerate(SIZES):
        chosen = objects if size == 'all' else objects & (sizes == number)
        found = [int((test.errors.found_scores[chosen] >= score).sum()) for score in thresholds]
        figures.append(
            dict(
                size=size,
                objects=int(chosen.sum()),
                ap=test.coco.mean(area=size),
                ap50=test.coco.mean(area=size, iou=0.5),
                found=found,
            )
        )
    return figures


def _error_figures(test: Evaluated, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """Counts of each error type by threshold, and the AP50 it costs."""
    gains = gain_of_fixes(test.table, test.errors, len(test.classes))
    counts = [count_errors(test.table, test.errors, score) for score in thresholds]
    figures = [
        dict(error=error, ap50_gain=gains[error], counts=[count[error] for count in counts])
        for error in ERRORS
    ]
    false = [sum(count[kind] for kind in FALSE_KINDS) for count in counts]
    lost = ~test.table.gt_crowd
    unfound = [int((test.errors.found_scores[lost] < score).sum()) for score in thresholds]
    for name, numbers in zip(GAINS[len(ERRORS) :], (false, unfound), strict=True):
        figures.append(dict(error=name, ap50_gain=gains[name], counts=numbers))
    return figures


def _confusion_figures(test: Evaluated, thresholds: Sequence[float]) -> dict[str, Any]:
    """Confusion of classes by threshold, as (row, column, count) of the cells above 0."""
    pairs = find_confusable(test.table, test.errors)
    cells = []
    for score in thresholds:
        matrix = confusion_matrix(test.table, test.errors, pairs, len(test.classes), score)
        rows, columns = np.nonzero(matrix)
        cells.append(np.stack([rows, columns, matrix[rows, columns]], axis=1).tolist())
    return dict(labels=[*test.classes, 'background'], cells=cells)
