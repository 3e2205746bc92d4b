"""Panel of an inspected image: found and missed objects, and false detections."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..analysis.matching import MatchCounts, count_matches, match_detections
from ..apis.inspection import ImageInspection
from . import colors
from .inspection_axes import MAX_THICK, class_name, draw_box, draw_objects, show_image

# With more boxes their names would hide the image.
MAX_NAMES = 25
NAME_POINTS = 7.0
MAX_SHIFTS = 4


class Matched(NamedTuple):
    """Detections of an image above a threshold, compared with the ground truth.

    Attributes:
        bboxes: Their boxes, (N, 4).
        labels: Their classes, (N,).
        scores: Their scores, (N,).
        matches: The object that each found, or -1, (N,); None where objects are unknown.
        counts: What was found and missed; None where objects are unknown.
    """

    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    matches: np.ndarray | None
    counts: MatchCounts | None


def match_inspection(
    inspection: ImageInspection, score_thr: float, iou_thr: float = 0.5
) -> Matched:
    """Compare the detections of an image with its ground truth.

    Args:
        inspection: The image.
        score_thr: Detections below this score are left out.
        iou_thr: Least IoU of a detection with the object that it found.

    Returns:
        The detections that are left.
    """
    found, truth = inspection.detections, inspection.ground_truth
    shown = found.scores >= score_thr
    parts = found.bboxes[shown], found.labels[shown], found.scores[shown]
    if truth is None:
        return Matched(*parts, None, None)
    matches = match_detections(*parts, truth.bboxes, truth.labels, iou_thr)
    counts = count_matches(matches, parts[2], len(truth.labels), score_thr)
    return Matched(*parts, matches, counts)


class NamePlates:
    """Writes names at boxes, inside the image and beside each other.

    Args:
        axes: Where to draw; shows the image.
        width_points: Width of the axes in points, about.
    """

    def __init__(self, axes: Axes, width_points: float) -> None:
        self.axes = axes
        self.right, self.bottom = axes.get_xlim()[1], axes.get_ylim()[0]
        pixel = self.right / width_points
        self.letter, self.line = 0.62 * NAME_POINTS * pixel, 1.7 * NAME_POINTS * pixel
        self.taken: list[tuple[float, float, float]] = []

    def write(self, box: np.ndarray, text: str, color: str) -> None:
        """Write a name.

        Args:
            box: (x1, y1, x2, y2) in pixels.
            text: The name.
            color: Colour of its plate.
        """
        at_right, at_top = box[0] > 0.7 * self.right, box[1] < self.line
        x = float(np.clip(box[2 if at_right else 0], 0, self.right))
        y = float(np.clip(box[3 if at_top else 1], 0, self.bottom))
        width = self.letter * len(text)
        left = x - width if at_right else x
        step = self.line if at_top else -self.line
        for _ in range(MAX_SHIFTS):
            hidden = self.hidden_name(left, y, width)
            if hidden is None:
                break
            y = hidden + step
        self.taken.append((left, y, width))
        self.axes.text(
            x,
            y,
            text,
            ha='right' if at_right else 'left',
            va='top' if at_top else 'bottom',
            fontsize=NAME_POINTS,
            color=colors.BLACK,
            bbox=dict(boxstyle='square,pad=0.15', facecolor=color, edgecolor='none', alpha=0.85),
            clip_on=True,
        )

    def hidden_name(self, left: float, y: float, width: float) -> float | None:
        """Place of a name that one at (left, y) pixels would lie over; None if there is none."""
        for other, other_y, other_width in self.taken:
            beside = left >= other + other_width or other >= left + width
            if not beside and abs(y - other_y) < 0.99 * self.line:
                return other_y
        return None


def draw_outcome(
    axes: Axes,
    inspection: ImageInspection,
    matched: Matched,
    classes: Sequence[str],
    width_points: float,
) -> None:
    """Draw detections and objects in the colours of their outcome.

    Args:
        axes: Where to draw.
        inspection: The image.
        matched: Its detections.
        classes: Class names.
        width_points: Width of the axes in points, about.
    """
    show_image(axes, inspection.image)
    truth, marks = inspection.ground_truth, []
    for index, box in enumerate(matched.bboxes):
        is_false = matched.matches is not None and matched.matches[index] < 0
        name = class_name(classes, int(matched.labels[index]))
        color = colors.FALSE if is_false else colors.FOUND
        marks.append((box, f'{name} {matched.scores[index]:.2f}', color))
    if truth is not None and matched.matches is not None:
        found = np.isin(np.arange(len(truth.labels)), matched.matches)
        draw_objects(axes, truth.bboxes[found])
        draw_objects(axes, truth.bboxes[~found], colors.MISSED)
        for box, label in zip(truth.bboxes[~found], truth.labels[~found], strict=True):
            marks.append((box, f'missed {class_name(classes, int(label))}', colors.MISSED))
    width = 2.0 if len(marks) <= MAX_THICK else 1.0
    for box, _, color in reversed(marks[: len(matched.labels)]):  # the most certain ones on top
        draw_box(axes, box, color, width, ':' if color == colors.FALSE else '-')
    if len(marks) <= MAX_NAMES:
        plates = NamePlates(axes, width_points)
        for mark in marks:
            plates.write(*mark)


def outcome_legend(known: bool) -> list[Line2D]:
    """Entries that explain the boxes.

    Args:
        known: Whether the objects are known.

    Returns:
        The entries.
    """
    if not known:
        return [Line2D([], [], color=colors.FOUND, linewidth=2, label='detection')]
    rows: tuple[tuple[str, str, Literal['-', ':', '--']], ...] = (
        ('detection of an object', colors.FOUND, '-'),
        ('false detection', colors.FALSE, ':'),
        ('missed object', colors.MISSED, '--'),
        ('object', '#777777', '--'),
    )
    return [
        Line2D([], [], color=color, linestyle=dashes, linewidth=2, label=label)
        for label, color, dashes in rows
    ]
