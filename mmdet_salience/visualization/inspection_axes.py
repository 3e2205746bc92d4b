"""What the panels of an inspected image share: the image, boxes, names of levels and classes."""

from collections.abc import Sequence
from math import log2

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..apis.inspection import ImageInspection
from . import colors

# Pictures are drawn with at most this many pixels a side; a figure shows no more.
MAX_SIDE = 1400
# Smaller images are enlarged smoothly.
SMOOTH_SIDE = 500
# With more boxes, thick lines would hide one another.
MAX_THICK = 60


def strides(inspection: ImageInspection) -> list[int]:
    """Strides of the levels in pixels of the resized image, finest first."""
    height = inspection.canvas_shape[0]
    return [2 ** round(log2(height / rows)) for rows, _ in inspection.level_shapes]


def class_name(classes: Sequence[str], label: int) -> str:
    """Name of a class, or its number where it has none."""
    return classes[label] if label < len(classes) else f'class {label}'


def show_image(axes: Axes, image: np.ndarray, brightness: float = 1.0) -> None:
    """Show an image so that the axes count its own pixels.

    Args:
        axes: Where to draw.
        image: RGB, (H, W, 3), uint8.
        brightness: Factor of its colours, 0 for black.
    """
    height, width = image.shape[:2]
    factor = MAX_SIDE / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if brightness < 1:
        image = np.rint(image * brightness).astype(np.uint8)
    smooth = 'bicubic' if max(height, width) < SMOOTH_SIDE else 'antialiased'
    axes.imshow(image, extent=(0, width, height, 0), interpolation=smooth)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])


def draw_box(axes: Axes, box: np.ndarray, color: str, width: float, dashes: str = '-') -> None:
    """Draw a box with a dark rim, which shows on any background.

    Args:
        axes: Where to draw.
        box: (x1, y1, x2, y2) in pixels.
        color: Colour of the line.
        width: Its width in points.
        dashes: Its style.
    """
    x, y, right, bottom = box.tolist()
    lines = ((colors.BLACK, width + 1.0, '-', 0.45), (color, width, dashes, 1.0))
    for line_color, line_width, style, alpha in lines:
        axes.add_patch(
            Rectangle(
                (x, y),
                right - x,
                bottom - y,
                fill=False,
                edgecolor=line_color,
                linewidth=line_width,
                linestyle=style,
                alpha=alpha,
            )
        )


def draw_objects(axes: Axes, boxes: np.ndarray, color: str = colors.OBJECT) -> None:
    """Draw annotated objects as dashed boxes, as thin solid ones where there are many.

    Args:
        axes: Where to draw.
        boxes: Their boxes, (M, 4).
        color: Colour of the lines.
    """
    many = len(boxes) > MAX_THICK
    for box in boxes:
        draw_box(axes, box, color, 0.8 if many else 1.4, '-' if many else '--')
