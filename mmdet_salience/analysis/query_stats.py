"""Where a detector's initial queries lie: scale bias and redundancy (the paper's first figure).

Shapes: Q queries, M objects of an image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# COCO's limits of small and medium objects, in square pixels of the original image.
SIZE_LIMITS = (32**2, 96**2)
SIZES = ('small', 'medium', 'large', 'all')


class QueryPlaces(NamedTuple):
    """Queries of an image on the cells of the feature maps."""

    cells: np.ndarray
    """Level, column and row of each query, (Q, 3), best first."""
    points: np.ndarray
    """Centres (x, y) of these cells in pixels of the padded batch, (Q, 2)."""


class ObjectQueries(NamedTuple):
    """Queries of the objects of one or more images."""

    areas: np.ndarray
    """Area of each object in square pixels of the original image, (M,)."""
    counts: np.ndarray
    """Queries in each object, (M,)."""
    redundant: np.ndarray
    """Those of them next to a better one of the same object, (M,)."""
    num_queries: int
    """Queries of the images, in objects or not."""


class SizeStats(NamedTuple):
    """Queries of the objects of one size."""

    size: str
    """``'small'``, ``'medium'``, ``'large'`` or ``'all'``."""
    num_objects: int
    """Objects of the size."""
    queries_per_object: float
    """Mean; NaN without objects, as the next ones."""
    share_without: float
    """Share of the objects without a query."""
    share_redundant: float
    """Share of the objects' queries that are redundant."""


def locate_tokens(
    indices: np.ndarray, level_shapes: Sequence[tuple[int, int]], batch_shape: tuple[int, int]
) -> QueryPlaces:
    """Turn token numbers into places.

    Args:
        indices: Tokens, level after level, row after row, (Q,).
        level_shapes: (height, width) of each level.
        batch_shape: (height, width) of the padded batch in pixels.

    Returns:
        The places.
    """
    shapes = np.array(level_shapes)
    starts = np.concatenate([[0], shapes.prod(axis=1).cumsum()])
    levels = np.searchsorted(starts, indices, side='right') - 1
    heights, widths = shapes[levels].T
    rows, columns = np.divmod(indices - starts[levels], widths)
    x = (columns + 0.5) * batch_shape[1] / widths
    y = (rows + 0.5) * batch_shape[0] / heights
    return QueryPlaces(np.stack([levels, columns, rows], 1), np.stack([x, y], 1))


def find_owners(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Find the smallest object that contains each point.

    Args:
        points: (x, y), (Q, 2).
        boxes: (x1, y1, x2, y2), (M, 4).

    Returns:
        Numbers of the objects, -1 for points outside all of them, (Q,).
    """
    if not len(boxes):
        return np.full(len(points), -1)
    low, high = (boxes[:, :2], boxes[:, 2:])
    distances = np.concatenate([points[:, None] - low, high - points[:, None]], axis=2)
    inside = distances.min(axis=2) > 0
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    best = np.where(inside, areas, np.inf).argmin(axis=1)
    return np.where(inside.any(axis=1), best, -1)


def find_redundant(cells: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Find queries next to a better one of the same object.

    Args:
        cells: Level, column and row of each query, best first, (Q, 3).
        owners: Object of each query, -1 for none, (Q,).

    Returns:
        True where a better query of the object is a 4-neighbour on the same level, (Q,).
    """
    distance = np.abs(cells[:, None, 1:] - cells[None, :, 1:]).sum(axis=2)
    same = (cells[:, None, 0] == cells[None, :, 0]) & (owners[:, None] == owners[None])
    better = np.tri(len(cells), k=-1, dtype=bool)
    return ((distance == 1) & same & better).any(axis=1) & (owners >= 0)


def count_queries(places: QueryPlaces, boxes: np.ndarray, areas: np.ndarray) -> ObjectQueries:
    """Count the queries of an image's objects.

    Args:
        places: The queries.
        boxes: Objects (x1, y1, x2, y2) in pixels of the padded batch, (M, 4).
        areas: Their areas in square pixels of the original image, (M,).

    Returns:
        The counts.
    """
    owners = find_owners(places.points, boxes)
    redundant = find_redundant(places.cells, owners)
    counts = np.bincount(owners[owners >= 0], minlength=len(boxes))
    repeated = np.bincount(owners[redundant], minlength=len(boxes))
    return ObjectQueries(areas, counts, repeated, len(owners))


def join_counts(parts: Sequence[ObjectQueries]) -> ObjectQueries:
    """Join the counts of several images."""
    return ObjectQueries(
        np.concatenate([part.areas for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.redundant for part in parts]),
        sum(part.num_queries for part in parts),
    )


def summarize(counts: ObjectQueries) -> list[SizeStats]:
    """Sum up by COCO size.

    Args:
        counts: Queries of each object.

    Returns:
        Small, medium, large and all objects.
    """
    size_class = np.digitize(counts.areas, SIZE_LIMITS)
    stats = []
    for number, size in enumerate(SIZES):
        chosen = size_class == number if size != 'all' else np.ones(len(size_class), bool)
        found = counts.counts[chosen]
        total = int(found.sum())
        stats.append(
            SizeStats(
                size,
                int(chosen.sum()),
                float(found.mean()) if len(found) else float('nan'),
                float((found == 0).mean()) if len(found) else float('nan'),
                float(counts.redundant[chosen].sum() / total) if total else float('nan'),
            )
        )
    return stats
