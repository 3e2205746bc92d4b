"""Boxes that CocoDataset drops, that leave their image or that repeat another one.

Shapes: N images, M annotations. Boxes are ``(x, y, width, height)`` in pixels.
"""

from collections.abc import Hashable, Iterable

import numpy as np

from .annotation_table import AnnotationTable


def find_invalid(table: AnnotationTable) -> np.ndarray:
    """Find boxes that are not four finite numbers of 32 bits.

    Args:
        table: The annotations.

    Returns:
        (M,) bool; annotations marked ``ignore`` are not looked at.
    """
    with np.errstate(over='ignore'):
        boxes = table.boxes.astype(np.float32)
    return ~np.isfinite(boxes).all(1) & ~table.is_ignored


def find_degenerate(table: AnnotationTable) -> np.ndarray:
    """Find boxes that CocoDataset drops for their size, and the invalid ones.

    Args:
        table: The annotations.

    Returns:
        (M,) bool; annotations marked ``ignore`` are not looked at.
    """
    with np.errstate(invalid='ignore'):
        has_extent = (table.boxes[:, 2:] >= 1).all(1)
    has_no_area = ~has_extent | (table.areas <= 0)
    return find_invalid(table) | (has_no_area & ~table.is_ignored)


def find_turned(table: AnnotationTable, tolerance: float = 1) -> np.ndarray:
    """Find boxes that are turned by an attribute, which nobody but CVAT reads.

    Args:
        table: The annotations.
        tolerance: Degrees that do not count.

    Returns:
        (M,) bool; half a turn does not count, annotations marked ``ignore`` are not looked at.
    """
    angles = table.rotations % 180
    return (np.minimum(angles, 180 - angles) > tolerance) & ~table.is_ignored


def find_overhang(table: AnnotationTable) -> np.ndarray:
    """Measure how far boxes leave their images.

    Args:
        table: The annotations.

    Returns:
        (M,) float64, the pixels beyond the farthest side; 0 for boxes in the image and for those
        that have no extent, no image or an image without a size.
    """
    sizes = table.image_sizes[table.image_rows]
    known = (table.image_rows >= 0) & (sizes > 0).all(1)
    measured = known & np.isfinite(table.boxes).all(1) & (table.boxes[:, 2:] > 0).all(1)
    overhang = np.zeros(len(table.boxes))
    boxes, sizes = table.boxes[measured], sizes[measured]
    with np.errstate(over='ignore'):
        beyond = np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - sizes)
    overhang[measured] = beyond.max(1).clip(0)
    return np.where(table.is_ignored, 0, overhang)


def looks_like_corners(table: AnnotationTable, tolerance: float = 1, fewest: int = 10) -> bool:
    """Whether the boxes seem to hold two corners instead of a corner and a size.

    Args:
        table: The annotations.
        tolerance: Pixels by which boxes may leave their image.
        fewest: With fewer boxes nothing can be said.

    Returns:
        True if some boxes leave their images, but none would as ``(x1, y1, x2, y2)``.
    """
    known = np.isfinite(table.boxes).all(1) & (table.image_rows >= 0)
    boxes, sizes = table.boxes[known], table.image_sizes[table.image_rows[known]]
    if len(boxes) < fewest or not (find_overhang(table) > tolerance).any():
        return False
    are_ordered = (boxes[:, 2:] > boxes[:, :2]).all()
    return bool(are_ordered and (boxes[:, 2:] <= sizes + tolerance).all())


def find_shares(table: AnnotationTable) -> np.ndarray:
    """Find boxes in shares of their image's sides, from 0 to 1, instead of pixels.

    Args:
        table: The annotations.

    Returns:
        (M,) bool; none where a single box cannot be meant so: a box of less than a pixel at the
        corner of an image is possible, nothing but such boxes is not.
    """
    measured = np.isfinite(table.boxes).all(1) & ~table.is_ignored
    boxes = table.boxes[measured]
    are_shares = len(boxes) and ((boxes >= 0) & (boxes <= 1)).all() and (boxes % 1 > 0).any()
    return measured & bool(are_shares)


def has_other_shares(table: AnnotationTable, tolerance: float = 1e-3) -> bool:
    """Whether boxes in shares are centres and sizes, or corners, because they leave the image.

    Args:
        table: The annotations, all of them in shares.
        tolerance: Share by which a box may leave its image.

    Returns:
        True if a box does so as ``(x, y, width, height)``.
    """
    boxes = table.boxes[np.isfinite(table.boxes).all(1)]
    return bool((boxes[:, :2] + boxes[:, 2:] > 1 + tolerance).any())


def find_repeats(values: Iterable[Hashable]) -> np.ndarray:
    """Find values that came before.

    Args:
        values: Values, such as ids or names.

    Returns:
        Their positions, int64, ascending.
    """
    first: dict[Hashable, int] = {}
    rows = [row for row, value in enumerate(values) if first.setdefault(value, row) != row]
    return np.array(rows, np.int64)


def find_repeated_boxes(table: AnnotationTable) -> np.ndarray:
    """Find boxes that repeat an earlier one of the same image and class.

    Args:
        table: The annotations.

    Returns:
        Their positions, int64, ascending.
    """
    known = (table.image_rows >= 0) & (table.category_rows >= 0) & ~table.is_ignored
    rows = np.flatnonzero(known & ~find_degenerate(table))
    keys = np.column_stack([table.image_rows, table.category_rows, table.boxes])[rows]
    order = np.lexsort(keys.T)  # stable: among equal ones the first stays first
    is_same = (keys[order[1:]] == keys[order[:-1]]).all(1)
    return np.sort(rows[order[1:][is_same]])


def find_unusable_ids(table: AnnotationTable) -> np.ndarray:
    """Find annotation ids that COCO's evaluation cannot use as the number of a match.

    Args:
        table: The annotations.

    Returns:
        (M,) bool: the id is 0, which stands for "no match", or a text.
    """
    return np.array([value == 0 or isinstance(value, str) for value in table.annotation_ids], bool)
