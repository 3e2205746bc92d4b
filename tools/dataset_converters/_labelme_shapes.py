"""Shapes of LabelMe as objects, for the converter."""

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmdet_salience.datasets.conversion.coco_writer import CocoObject, ImageSize, box_object, tidy
from mmdet_salience.datasets.conversion.data_problems import DataError
from mmdet_salience.datasets.conversion.mask_classes import UNREADABLE
from mmdet_salience.datasets.conversion.polygons import Point, polygon_object

POLYGONS = ('polygon', 'rotation', 'quadrilateral')
CIRCLE_POINTS = 64  # a multiple of 4, so that the box around them is the circle's


def class_of(shape: Mapping[str, Any], renamed: Mapping[str, str]) -> str:
    """Class of a shape, empty if it has no label.

    Args:
        shape: The shape.
        renamed: Class of labels that are no classes.

    Returns:
        The class.
    """
    label = shape.get('label')
    label = label.strip() if isinstance(label, str) else ''
    return renamed.get(label, label)


def read_points(shape: Mapping[str, Any], numbers: Sequence[int]) -> list[Point]:
    """Read the points of a shape.

    Args:
        shape: The shape.
        numbers: How many it may have; a single number means that many or more.

    Returns:
        The points, in pixels.

    Raises:
        DataError: If there are others, or they are no pairs of numbers.
    """
    try:
        points = [(float(x), float(y)) for x, y in shape['points']]
    except (KeyError, TypeError, ValueError, OverflowError):
        points = []
    enough = len(points) in numbers or (len(numbers) == 1 and len(points) >= numbers[0])
    if not enough or not all(math.isfinite(value) for point in points for value in point):
        kind = shape.get('shape_type') or 'polygon'
        raise DataError('broken points', f'{kind} of {str(shape.get("points"))[:60]}')
    return points


def circle_object(category_id: int, points: Sequence[Point], size: ImageSize) -> CocoObject:
    """Make an object of a circle; what leaves the image is cut off, as no point shows it.

    Args:
        category_id: Id of its class.
        points: The centre and a point on the circle.
        size: Size of the image.

    Returns:
        The object.

    Raises:
        DataError: If it has no area in the image.
    """
    (x, y), edge = points
    radius = math.dist((x, y), edge)
    angles = [2 * math.pi * i / CIRCLE_POINTS for i in range(CIRCLE_POINTS)]
    ring = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
    inside = [(min(max(x, 0), size.width), min(max(y, 0), size.height)) for x, y in ring]
    return polygon_object(category_id, inside, size, 0)._replace(clipped=inside != ring)


def mask_object(
    category_id: int, shape: Mapping[str, Any], points: Sequence[Point], size: ImageSize
) -> CocoObject:
    """Make an object of a mask, with the box around its pixels and their number as area.

    Args:
        category_id: Id of its class.
        shape: The shape; ``mask`` is a PNG file in base64.
        points: First and last pixel of the mask.
        size: Size of the image.

    Returns:
        The object.

    Raises:
        DataError: If the mask is broken, empty or not in the image.
    """
    left, top = (int(value) for value in points[0])
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape['mask'], validate=True))) as image:
            if image.width > size.width or image.height > size.height:
                raise DataError('broken masks', f'{image.width}x{image.height} in an image {size}')
            rows, columns = np.nonzero(np.asarray(image.convert('L')))
    except DataError:
        raise
    except (KeyError, TypeError, binascii.Error, *UNREADABLE) as error:
        raise DataError('broken masks', str(error)) from error
    if not len(rows):
        raise DataError('broken masks', 'no pixel is set')
    corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    shifted = [float(value + shift) for value, shift in zip(corners, (left, top) * 2, strict=True)]
    return box_object(category_id, shifted, size, 0)._replace(area=len(rows))


def shape_object(
    category_id: int, shape: Mapping[str, Any], size: ImageSize, tolerance: float
) -> CocoObject:
    """Make an object of a shape.

    Args:
        category_id: Id of its class.
        shape: The shape.
        size: Size of the image.
        tolerance: One that leaves the image by at most this many pixels is clipped.

    Returns:
        The object.

    Raises:
        DataError: If the shape is broken, not in the image, or of a kind without area.
    """
    kind = shape.get('shape_type') or 'polygon'
    if kind in POLYGONS:
        return polygon_object(category_id, read_points(shape, [3]), size, tolerance)
    if kind == 'rectangle':
        xs, ys = zip(*read_points(shape, [2, 4]), strict=True)
        corners = (min(xs), min(ys), max(xs), max(ys))
        return box_object(category_id, corners, size, tolerance)
    if kind == 'circle':
        return circle_object(category_id, read_points(shape, [2, 2]), size)
    if kind == 'mask':
        return mask_object(category_id, shape, read_points(shape, [2, 2]), size)
    raise DataError('shapes without area', f'{kind} of {class_of(shape, {})!r}')


def join(parts: Sequence[CocoObject]) -> CocoObject:
    """Make one object of the parts of a group.

    Args:
        parts: The parts, at least one, of one class.

    Returns:
        An object with the box around all and the sum of their areas; it has polygons if all have.
    """
    if len(parts) == 1:
        return parts[0]
    left, top = (min(part.bbox[axis] for part in parts) for axis in (0, 1))
    right, bottom = (
        max(part.bbox[axis] + part.bbox[axis + 2] for part in parts) for axis in (0, 1)
    )
    polygons = [polygon for part in parts for polygon in part.polygons or []]
    return CocoObject(
        parts[0].category_id,
        (left, top, tidy(right - left), tidy(bottom - top)),
        tidy(sum(part.area for part in parts)),
        polygons if all(part.polygons for part in parts) else None,
        clipped=any(part.clipped for part in parts),
    )
