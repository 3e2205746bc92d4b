"""Repair of boxes in shares of their image's sides instead of pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .annotation_table import AnnotationTable
from .box_checks import find_shares, has_other_shares
from .repair_draft import Draft


def area_of(annotation: dict[str, Any]) -> float:
    """Area of an annotation in square pixels, NaN where it is missing or no number."""
    area = annotation.get('area')
    if isinstance(area, int | float) and not isinstance(area, bool):
        return area
    return np.nan


def _scale(values: Any, sides: Sequence[float]) -> Any:
    """Turn shares of the sides, of x and y in turn, into pixels; other values stay as they are."""
    try:
        are_shares = all(0 <= value <= 1 for value in values)
    except TypeError:  # a mask of another form than a polygon
        return values
    if not are_shares:
        return values
    return [round(value * sides[i % 2], 2) for i, value in enumerate(values)]


def _scale_shares(draft: Draft, table: AnnotationTable, in_shares: np.ndarray) -> None:
    """Scale boxes in shares of their image's sides, their areas and polygons to pixels.

    Args:
        draft: Changed in place.
        table: Its columns; each annotation has an image of known size.
        in_shares: (M,) bool, which boxes to scale.
    """
    for row in np.flatnonzero(in_shares).tolist():
        annotation = draft.annotations[row]
        width, height = table.image_sizes[table.image_rows[row]].tolist()
        annotation['bbox'] = _scale(annotation['bbox'], (width, height))
        if area_of(annotation) <= 1:
            annotation['area'] = round(annotation['area'] * width * height, 2)
        polygons = annotation.get('segmentation')
        if isinstance(polygons, list):
            annotation['segmentation'] = [_scale(part, (width, height)) for part in polygons]
    draft.count('scale_box', int(in_shares.sum()))


def settle_shares(draft: Draft) -> bool:
    """Scale boxes in shares of their image's sides to pixels.

    Args:
        draft: Changed in place.

    Returns:
        False if a person has to, and no box was changed.
    """
    table = draft.make_table()
    in_shares = find_shares(table)
    if not in_shares.any():
        return True
    reason = ''
    if has_other_shares(table):
        reason = 'may be centres and sizes, or two corners'
    elif (table.image_sizes[table.image_rows[in_shares]] < 1).any():
        reason = 'lie on images of unknown size'
    if reason:
        draft.left.append(
            f"the boxes are in shares of their image's sides and {reason}; convert them to "
            '[x, y, width, height] in pixels first: no box was changed'
        )
        return False
    _scale_shares(draft, table, in_shares)
    return True
