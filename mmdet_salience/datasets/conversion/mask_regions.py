"""Objects of a class mask: connected regions with boxes, polygons and areas.

Shapes: H and W the sides of the mask, h and w those of a crop around a region. Pixel (x, y) covers
the square from (x, y) to (x + 1, y + 1), and polygons run along the borders of these squares::

    . # #        polygon of the three pixels, from the top left:
    . # .        (1, 0) (1, 2) (2, 2) (2, 1) (3, 1) (3, 0)

So a polygon encloses its pixels exactly, one pixel or a line of pixels too, and pycocotools fills
it with the same pixels. COCO has no holes in polygons: those of a region count in its polygon, but
not in its area.
"""

from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

BoxXYWH = tuple[int, int, int, int]


class Region(NamedTuple):
    """An object.

    ``label`` is the class value in the mask, ``box`` (x, y, width, height) in pixels. ``polygons``
    holds ``[x1, y1, x2, y2, ...]`` of each connected part, ``area`` counts the pixels.
    """

    label: int
    box: BoxXYWH
    polygons: list[list[int]]
    area: int


class MaskRegions(NamedTuple):
    """Objects of a mask, by class and then from the top, and how many were too small."""

    regions: list[Region]
    num_small: int


def group_parts(mask: np.ndarray, merge_distance: int = 0) -> np.ndarray:
    """Number the connected parts of a mask; parts with a small gap get the same number.

    Pixels that touch at a corner are connected. The gap between two parts is the number of pixels
    between them in the direction, x or y, in which they are further apart. A pixel grown into a
    square of d + 1 touches another such square if the gap between the pixels is at most d.

    Args:
        mask: bool (H, W).
        merge_distance: Largest gap in pixels to be bridged, not negative.

    Returns:
        int32 (H, W), 0 outside the mask, groups from 1.

    Raises:
        ValueError: If the distance is negative.
    """
    if merge_distance < 0:
        raise ValueError(f'merge_distance must not be negative, got {merge_distance}')
    pixels = mask.astype(np.uint8)
    square = np.ones((merge_distance + 1, merge_distance + 1), np.uint8)
    grown = cv2.dilate(pixels, square) if merge_distance else pixels
    groups = cv2.connectedComponents(grown, connectivity=8)[1]
    return np.where(mask, groups, 0)


def outline_polygons(mask: np.ndarray) -> list[list[int]]:
    """Outline the connected parts of a mask along the borders of their pixels.

    OpenCV's contours run through centres of pixels. In a mask of twice the size pixel p lies at 2p
    and 2p + 1, so a contour has its first and last border at these, and (i + 1) // 2 maps them to
    p and p + 1. A contour cuts inner corners from 2p - 1 to 2p, and both of these map to p.

    Args:
        mask: bool (h, w).

    Returns:
        ``[x1, y1, x2, y2, ...]`` of each part, four corners or more; holes are filled.
    """
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = [i for i in range(len(contours)) if hierarchy[0, i, 3] < 0]  # no parent: not a hole
    return [_keep_corners((contours[i][:, 0] + 1) // 2).ravel().tolist() for i in parts]


def _keep_corners(points: np.ndarray) -> np.ndarray:
    """Drop repeated points of a closed outline, and those on a straight line.

    Args:
        points: int (N, 2), neighbours differ in x or in y only.

    Returns:
        int (M, 2) with M of at most N.
    """
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _class_regions(
    mask: np.ndarray, corner: tuple[int, int], label: int, min_area: int, distance: int
) -> MaskRegions:
    """Find the objects of one class.

    Args:
        mask: bool (h, w), the pixels of the class in a crop that holds all of them.
        corner: Place (x, y) of the crop's first pixel in the mask.
        label: Value of the class.
        min_area: Fewest pixels of an object.
        distance: Largest gap in pixels between parts of one object.

    Returns:
        The objects and how many were too small.
    """
    groups = group_parts(mask, distance)
    areas = np.bincount(groups.ravel())
    regions = []
    windows = ndimage.find_objects(groups)
    for number, (rows, columns) in enumerate(windows, 1):
        if areas[number] < min_area:
            continue
        start = (corner[0] + columns.start, corner[1] + rows.start)
        box = (*start, columns.stop - columns.start, rows.stop - rows.start)
        outlines = outline_polygons(groups[rows, columns] == number)
        polygons = [
            [value + start[i % 2] for i, value in enumerate(outline)] for outline in outlines
        ]
        regions.append(Region(label, box, polygons, int(areas[number])))
    return MaskRegions(regions, len(windows) - len(regions))


def find_regions(mask: np.ndarray, min_area: int = 1, merge_distance: int = 0) -> MaskRegions:
    """Find the objects of a class mask.

    Args:
        mask: Integer (H, W), 0 background, else the class.
        min_area: Fewest pixels of an object, after its parts were put together.
        merge_distance: Regions of a class whose gap is at most this many pixels are one object;
            see :func:`group_parts`.

    Returns:
        The objects and how many were too small.

    Raises:
        ValueError: If the mask is not (H, W) integers from 0, or the distance is negative.
    """
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer) or mask.min(initial=0) < 0:
        raise ValueError(f'the mask must be (H, W) integers from 0, got {mask.dtype} {mask.shape}')
    regions, num_small = [], 0
    for label, window in enumerate(ndimage.find_objects(mask), 1):
        if window is None:
            continue
        rows, columns = window
        crop = mask[window] == label
        corner = (columns.start, rows.start)
        found = _class_regions(crop, corner, label, min_area, merge_distance)
        regions += found.regions
        num_small += found.num_small
    return MaskRegions(regions, num_small)
