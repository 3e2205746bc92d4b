"""Inspected images without a model, for tests of what is drawn of them."""

import numpy as np

from mmdet_salience.apis import ImageInspection, Objects, QueryPoints

LEVELS = ((8, 12), (4, 6), (2, 3), (1, 2))
CANVAS = (64, 96)


def objects(boxes=(), labels=(), scores=None):
    """Objects from lists; scores of one without any."""
    scores = np.ones(len(boxes)) if scores is None else np.array(scores, dtype=float)
    return Objects(np.array(boxes, float).reshape(-1, 4), np.array(labels, dtype=int), scores)


def points(tokens, scale=1.0):
    """Queries from numbers of tokens."""
    starts = np.cumsum([0] + [rows * columns for rows, columns in LEVELS])
    tokens = np.array(tokens, dtype=int)
    levels = np.searchsorted(starts, tokens, side='right') - 1
    rows, columns = np.divmod(tokens - starts[levels], np.array(LEVELS)[levels, 1])
    cells = np.array([(CANVAS[1] / w, CANVAS[0] / h) for h, w in LEVELS])[levels]
    places = (np.stack([columns, rows], axis=1) + 0.5) * cells * scale
    return QueryPoints(tokens, levels, places.reshape(-1, 2))


def make_inspection(
    found=None, truth=None, scale=1, path='folder/image.png', layers=((0, 96), (0,), ())
):
    """An image of 60 x 90 pixels, times ``scale``, on a canvas of 64 x 96.

    Salience is 0.25, 0.5, 0.75 and 1 on the four levels, its targets are 0.

    Args:
        found: Detections; by default two of class 0 and 1 with scores 0.9 and 0.4.
        truth: Annotated objects, None for unknown ones.
        scale: Pixels of the image a pixel of the resized image.
        path: Its file.
        layers: Tokens of each encoder layer.
    """
    if found is None:
        found = objects([(8, 8, 40, 40), (50, 10, 80, 30)], [0, 1], [0.9, 0.4])
    shape = (60 * scale, 90 * scale)
    gradient = np.linspace(40, 200, shape[1]).astype(np.uint8)
    return ImageInspection(
        image=np.broadcast_to(gradient[None, :, None], (*shape, 3)).copy(),
        path=path,
        detections=found,
        ground_truth=truth,
        salience=tuple(np.full(shape, (level + 1) / 4, np.float32) for level in range(4)),
        salience_targets=None
        if truth is None
        else tuple(np.zeros(shape, np.float32) for _ in LEVELS),
        layer_tokens=tuple(np.array(tokens, dtype=int) for tokens in layers),
        candidates=points([0, 1, 97, 121], scale),
        queries=points([0, 97, 40, 121], scale),
        level_shapes=LEVELS,
        canvas_shape=CANVAS,
        content_shape=(60, 90),
    )
