"""Pose labels of YOLO, a box and key points a line, which look like polygons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _conversion import Report

from mmdet_salience.datasets.conversion.data_problems import DataError

NUMBERS_OF_BOX = 5  # class, cx, cy, w, h
FLAGS = (0, 1, 2)  # not labelled, hidden, visible
ENOUGH_LINES = 10  # from so many on, likeness is no chance
REMEDY = 'say which by --kpt-shape NUMBER VALUES, or by --polygons'


class KeyPoints(NamedTuple):
    """``kpt_shape``: the number of key points, and of the values of each, 2 or 3 (with a flag)."""

    number: int
    values: int

    @property
    def line_length(self) -> int:
        """How many numbers a line has."""
        return NUMBERS_OF_BOX + self.number * self.values


def parse_shape(value: Any, where: Path | str) -> KeyPoints:
    """Read the shape of key points.

    Args:
        value: What ``kpt_shape`` holds.
        where: Where it stands, for messages.

    Returns:
        The shape.

    Raises:
        SystemExit: If it is something else.
    """
    is_pair = isinstance(value, (list, tuple)) and [type(part) for part in value] == [int, int]
    if not is_pair or value[0] < 1 or value[1] not in (2, 3):
        raise SystemExit(
            f'error: {where}: kpt_shape must be the number of key points and 2 or 3, got {value!r}'
        )
    return KeyPoints(*value)


def check_length(numbers: Sequence[float], shape: KeyPoints) -> None:
    """Check that a line is a box with all its key points.

    Args:
        numbers: Its numbers.
        shape: Shape of the key points.

    Raises:
        DataError: If it is something else: a box alone, or a polygon.
    """
    if len(numbers) != shape.line_length:
        number, values = shape
        detail = (
            f'{len(numbers)} numbers instead of {shape.line_length}: a box and {number} key points '
            f'of {values} values, as kpt_shape says'
        )
        raise DataError('lines that are no pose labels', detail)


def _has_flags(rest: Sequence[float]) -> bool:
    """Whether what follows a box has a flag of visibility at each third place."""
    return len(rest) % 3 == 0 and all(value in FLAGS for value in rest[2::3])


def _is_inside(box: Sequence[float], rest: Sequence[float]) -> bool:
    """Whether a box ``(cx, cy, w, h)`` lies in the image, and points in it, but those at (0, 0)."""
    (x, y, width, height), slack = box, 1e-6
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if min(left, top) < -slack or max(right, bottom) > 1 + slack or min(width, height) <= 0:
        return False
    points = zip(rest[0::2], rest[1::2], strict=True)
    return all(
        (px, py) == (0, 0) or (left <= px <= right and top <= py <= bottom) for px, py in points
    )


class PoseGuess:
    """Looks at lines that were taken for polygons: might they be poses of a shape not given?"""

    def __init__(self) -> None:
        self._lengths: set[int] = set()
        self._count = 0
        self._first = ''
        self._have_flags = self._are_inside = True

    def see(self, numbers: Sequence[float], where: str) -> None:
        """Look at a line of more than five numbers.

        Args:
            numbers: Its numbers, of which there is an odd number.
            where: File and line.
        """
        box, rest = numbers[1:NUMBERS_OF_BOX], numbers[NUMBERS_OF_BOX:]
        self._lengths.add(len(numbers))
        self._count += 1
        self._first = self._first or where
        self._have_flags = self._have_flags and _has_flags(rest)
        self._are_inside = self._are_inside and _is_inside(box, rest)

    def add_to(self, report: Report) -> None:
        """Report what was seen: a problem where all lines look like poses, a note where few do.

        Args:
            report: Problems and notes.
        """
        if len(self._lengths) != 1 or not (self._have_flags or self._are_inside):
            return
        detail = f'{self._count} such lines, each could be a box with key points inside; {REMEDY}'
        if self._have_flags or self._count >= ENOUGH_LINES:
            report.problems.add('lines that may be poses or polygons', self._first, detail)
        else:
            report.notes.add('lines taken for polygons', self._first, detail)


def find_shape(
    given: Sequence[int] | None, content: Mapping[str, Any] | None, where: Path
) -> KeyPoints | None:
    """Find the shape of key points: that of the command line, else that of ``data.yaml``.

    Args:
        given: Number of key points and of values.
        content: Content of ``data.yaml``, None without one.
        where: The file.

    Returns:
        The shape, None where neither says one.

    Raises:
        SystemExit: If it makes no sense.
    """
    if given is not None:
        return parse_shape(given, '--kpt-shape')
    value = (content or {}).get('kpt_shape')
    return None if value is None else parse_shape(value, where)
