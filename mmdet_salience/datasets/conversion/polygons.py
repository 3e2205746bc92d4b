"""Objects of polygons, as annotation tools write them.

Points are (x, y) in pixels, x2 and y2 of a box one past the last pixel.
"""

from collections.abc import Sequence

from .coco_writer import CocoObject, ImageSize, box_object, tidy
from .data_problems import DataError

Point = tuple[float, float]


def polygon_area(points: Sequence[Point]) -> float:
    """Area of a polygon that does not cross itself.

    Args:
        points: Its corners, in pixels.

    Returns:
        The area in square pixels.
    """
    doubled = 0.0
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        doubled += x1 * y2 - x2 * y1
    return abs(doubled) / 2


def polygon_object(
    category_id: int, points: Sequence[Point], size: ImageSize, tolerance: float
) -> CocoObject:
    """Make an object of a polygon, with the box around it.

    Args:
        category_id: Id of its class.
        points: Its corners, in pixels.
        size: Size of the image.
        tolerance: A polygon that leaves the image by at most this many pixels is clipped.

    Returns:
        The object.

    Raises:
        DataError: If it has no area or leaves the image by more.
    """
    xs, ys = zip(*points, strict=True)
    item = box_object(category_id, (min(xs), min(ys), max(xs), max(ys)), size, tolerance)
    inside = [
        (tidy(min(max(x, 0), size.width)), tidy(min(max(y, 0), size.height))) for x, y in points
    ]
    area = tidy(polygon_area(inside))
    if area <= 0:
        raise DataError('polygons without area', f'{len(points)} points on a line')
    return item._replace(area=area, polygons=[[value for point in inside for value in point]])
