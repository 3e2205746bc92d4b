"""Images so thin that resizing leaves nothing of their short side."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

# Rescaling rounds to the nearest pixel, so half a pixel of the short side has to be left.
SMALLEST_SIDE = 0.5


def _as_mapping(node: Any) -> Mapping[str, Any]:
    """Settings of a step of a pipeline, whether it is a config or was built already."""
    return node if isinstance(node, Mapping) else getattr(node, '__dict__', {})


def _long_sides(step: Mapping[str, Any]) -> Iterator[float]:
    """Longest sides in pixels that a step allows, if it resizes with ``keep_ratio``."""
    options = {**step, **_as_mapping(step.get('resize_cfg'))}
    if not options.get('keep_ratio'):
        return
    shrink = min(options.get('ratio_range') or (1,))
    one: Any = options.get('scale')
    many: Any = options.get('scales')
    scales = list(many) if isinstance(many, list) else [many]
    is_range = isinstance(one, (list, tuple)) and isinstance(one[0], (list, tuple))
    scales += list(one) if is_range else [one]
    for scale in scales:
        sides = scale if isinstance(scale, (list, tuple)) else [scale or 0]
        if max(sides) > 0:
            yield max(sides) * shrink


def _steps(node: Any) -> Iterator[Mapping[str, Any]]:
    """All steps of a pipeline, those within others too."""
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _steps(child)
        return
    step = _as_mapping(node)
    yield step
    for key in ('transforms', 'policies'):
        yield from _steps(step.get(key, ()))


def largest_ratio(pipeline: Any) -> float:
    """Find how thin an image may be for a pipeline.

    Args:
        pipeline: Configs of its steps, or the steps themselves.

    Returns:
        The ratio of long to short side from which on some resizing with ``keep_ratio`` rounds the
        short side to 0 pixels; infinite without such a step.
    """
    sides = [side for step in _steps(pipeline) for side in _long_sides(step)]
    return min(sides, default=math.inf) / SMALLEST_SIDE


def is_thin(width: float, height: float, max_ratio: float) -> bool:
    """Whether an image of this size, in pixels, is too thin for :func:`largest_ratio`."""
    short, long = sorted((width, height))
    return short > 0 and long / short >= max_ratio
