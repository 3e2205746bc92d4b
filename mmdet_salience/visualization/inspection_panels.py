"""Panels of an inspected image: queries, salience and updated tokens."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.lines import Line2D

from ..apis.inspection import ImageInspection, QueryPoints
from . import colors
from .inspection_axes import MAX_SIDE, draw_objects, show_image

# Share of the image's brightness under points and cells.
DIMMED = 0.6
# Area of a query's point in square points: on the finest level, and growth from level to level.
POINT_AREA = 12.0
POINT_GROWTH = 1.9
FEW_QUERIES = 300


def point_areas(levels: np.ndarray, num_queries: int) -> np.ndarray:
    """Areas of points by level in square points, (Q,); smaller where there are many."""
    base = POINT_AREA if num_queries <= FEW_QUERIES else POINT_AREA / 2
    return base * POINT_GROWTH ** np.asarray(levels, dtype=float)


def draw_queries(
    axes: Axes, inspection: ImageInspection, points: QueryPoints, marked: np.ndarray, color: str
) -> None:
    """Draw queries as points, larger on coarser levels, over the objects.

    Args:
        axes: Where to draw.
        inspection: The image.
        points: The queries.
        marked: Those to be drawn in another colour, (Q,), bool.
        color: That colour.
    """
    show_image(axes, inspection.image, DIMMED)
    if inspection.ground_truth is not None:
        draw_objects(axes, inspection.ground_truth.bboxes)
    order = np.argsort(-points.levels, kind='stable')  # the large ones below
    x, y = points.points[order].T
    axes.scatter(
        x,
        y,
        s=point_areas(points.levels[order], len(order)),
        c=np.where(marked[order], color, colors.KEPT),
        edgecolors=colors.BLACK,
        linewidths=0.4 if len(order) <= FEW_QUERIES else 0.25,
        zorder=3,
    )


def draw_map(axes: Axes, inspection: ImageInspection, values: np.ndarray) -> ScalarMappable:
    """Draw salience or its target over the image.

    Args:
        axes: Where to draw.
        inspection: The image.
        values: The map, (H, W), 0..1.

    Returns:
        What a colour bar needs.
    """
    height, width = values.shape
    factor = MAX_SIDE / 2 / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        values = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    show_image(axes, inspection.image)
    scale = Normalize(0, 1)
    extent = (0, width, height, 0)
    axes.imshow(values, cmap=colors.SALIENCE_MAP, norm=scale, extent=extent, alpha=0.7)
    return ScalarMappable(scale, colors.SALIENCE_MAP)


def draw_cells(axes: Axes, inspection: ImageInspection, level: int) -> ScalarMappable:
    """Draw how many encoder layers update each cell of a level; the others show the image.

    Args:
        axes: Where to draw.
        inspection: The image.
        level: The level, 0 the finest.

    Returns:
        What a colour bar needs.
    """
    layers = len(inspection.layer_tokens)
    counts = np.sum([inspection.layer_masks(layer)[level] for layer in range(layers)], axis=0)
    shown = np.ma.masked_equal(counts, 0)
    right, bottom = inspection.cell_boxes(level)[-1, 2:]
    table = matplotlib.colormaps[colors.LAYER_MAP].resampled(layers)
    scale = BoundaryNorm(np.arange(0.5, layers + 1), layers)
    show_image(axes, inspection.image, DIMMED)
    limits = dict(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    extent = (0, right, bottom, 0)
    axes.imshow(shown, cmap=table, norm=scale, extent=extent, alpha=0.75, interpolation='nearest')
    axes.set(**limits)
    return ScalarMappable(scale, table)


def query_legend(level_strides: Sequence[int]) -> list[Line2D]:
    """Entries that explain the points.

    Args:
        level_strides: Strides of the levels, finest first.

    Returns:
        The entries.
    """
    dots = [
        ('query, stays', colors.KEPT, 8.0),
        ('removed as redundant', colors.REMOVED, 8.0),
        ('takes a free place', colors.ADDED, 8.0),
    ]
    areas = point_areas(np.arange(len(level_strides)), 0)
    dots += [
        (f'stride {stride}', '#BBBBBB', float(np.sqrt(area)))
        for stride, area in zip(level_strides, areas, strict=True)
    ]
    return [
        Line2D(
            [],
            [],
            linestyle='none',
            marker='o',
            color=color,
            markeredgecolor=colors.BLACK,
            markeredgewidth=0.4,
            markersize=size,
            label=label,
        )
        for label, color, size in dots
    ]
