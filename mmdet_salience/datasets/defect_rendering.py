"""Drawing and placing of the synthetic surface defects: brushed metal, scratches, pits and stains.

Shapes: S image side in pixels, h and w the sides of a patch that holds one defect and a margin.
Boxes are ``(x, y, width, height)`` in pixels. Colours are BGR, in grey levels 0 to 255; changes may
be negative.
"""

from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

Range = tuple[float, float]


class Defect(NamedTuple):
    """A defect in its patch: ``mask`` bool (h, w), ``delta`` float32 (h, w, 3) in grey levels."""

    mask: np.ndarray
    delta: np.ndarray


def _smoothstep(values: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Rise smoothly from 0 at ``start`` to 1 at ``stop`` (either may be larger); same shape."""
    t = np.clip((values - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Low-frequency noise of unit variance at its ``cells`` x ``cells`` knots, float32 (h, w)."""
    knots = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_CUBIC)


def render_metal(
    rng: np.random.Generator,
    size: int,
    base: Range = (100, 165),
    streak_level: float = 4,
    shade_level: float = 6,
    noise_level: float = 2.0,
    tint_level: float = 3,
    streak_px: int = 41,
) -> np.ndarray:
    """Draw brushed metal: streaks of one direction, uneven light, noise and a slight tint.

    Args:
        rng: Source of randomness.
        size: Side S in pixels.
        base: Range of the mean grey level.
        streak_level: Standard deviation of the streaks in grey levels; the next three likewise.
        shade_level: Of the low-frequency shading.
        noise_level: Of the pixel noise.
        tint_level: Of the shift of each colour channel.
        streak_px: Length of the streaks in pixels.

    Returns:
        float32 (S, S, 3).
    """
    wide = int(np.ceil(1.5 * size))
    streaks = cv2.blur(rng.standard_normal((wide, wide)).astype(np.float32), (streak_px, 1))
    turn = cv2.getRotationMatrix2D((wide / 2, wide / 2), rng.uniform(0, 180), 1)
    turn = turn - np.array([[0, 0, 1], [0, 0, 1]]) * (wide - size) / 2
    streaks = cv2.warpAffine(streaks, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    grey = rng.uniform(*base) + streak_level * streaks / streaks.std()
    grey = grey + shade_level * _smooth_noise(rng, (size, size), 4)
    grey = grey + noise_level * rng.standard_normal((size, size))
    return (grey[..., None] + tint_level * rng.standard_normal(3)).astype(np.float32)


def _radial(
    rng: np.random.Generator, length: float, aspect: Range, wobble: float, margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Polar coordinates of a wobbly ellipse whose box has the longest side ``length`` pixels.

    Args:
        rng: Source of randomness.
        length: Longest side of the box in pixels.
        aspect: Range of the short axis over the long one.
        wobble: Relative size of the waves on the outline.
        margin: Pixels around the box.

    Returns:
        rho, 1 on the outline and 0 in the middle, and the angle in radians; both (h, h).
    """
    tilt, ratio = rng.uniform(0, np.pi), rng.uniform(*aspect)
    orders = np.arange(2, 7)
    waves = wobble * rng.standard_normal(5) / orders**1.4
    phases = rng.uniform(0, 2 * np.pi, 5)

    def outline(angle: np.ndarray) -> np.ndarray:
        """Radius of the outline at ``angle``, up to a factor; same shape."""
        radius = 1 / np.hypot(np.cos(angle - tilt), np.sin(angle - tilt) / ratio)
        return radius * np.clip(1 + np.cos(angle[..., None] * orders + phases) @ waves, 0.4, 1.6)

    turns = np.linspace(0, 2 * np.pi, 180)
    edge = outline(turns)[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
    low, high = edge.min(0), edge.max(0)
    scale = length / (high - low).max()
    axis = np.arange(int(np.ceil(length)) + 2 * margin) + 0.5
    axis = axis - len(axis) / 2
    x, y = np.meshgrid(*(axis + scale * centre for centre in (low + high) / 2))
    angle = np.arctan2(y, x)
    return np.hypot(x, y) / (scale * outline(angle)), angle


def render_scratch(
    rng: np.random.Generator,
    length: float,
    strength: Range = (70, 100),
    bend: Range = (0.25, 0.5),
    thickness: Range = (0.06, 0.1),
    thinnest: float = 2.5,
    margin: int = 2,
    zoom: int = 4,
) -> Defect:
    """Draw a thin curved line, brighter or darker than the metal.

    Args:
        rng: Source of randomness.
        length: Longest side of the box in pixels.
        strength: Range of the change in grey levels.
        bend: Range of the sideways pull on the curve over its length.
        thickness: Range of the line's thickness over its length.
        thinnest: Least thickness in pixels.
        margin: Pixels around the box.
        zoom: The line is drawn this much larger, then averaged down.

    Returns:
        The defect; its patch is (h, h).
    """
    width = max(thinnest, length * rng.uniform(*thickness))
    pulls = rng.uniform(*bend, 2) * rng.choice([-1, 1], 2)
    knots = np.array([[-0.5, 0], [-0.2, pulls[0]], [0.2, pulls[1]], [0.5, 0]])
    turn = rng.uniform(0, 2 * np.pi)
    knots = knots @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    t = np.linspace(0, 1, 40)[:, None]
    curve = (
        (1 - t) ** 3 * knots[0]
        + 3 * t * (1 - t) ** 2 * knots[1]
        + 3 * t * t * (1 - t) * knots[2]
        + t**3 * knots[3]
    )
    low, high = curve.min(0), curve.max(0)
    side = int(np.ceil(length)) + 2 * margin
    curve = (curve - (low + high) / 2) * (length - width) / (high - low).max() + side / 2
    canvas = np.zeros((side * zoom, side * zoom), np.float32)
    cv2.polylines(
        canvas, [np.round(curve * zoom).astype(np.int32)], False, 1.0, max(1, round(width * zoom))
    )
    cover = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    change = rng.uniform(*strength) * rng.choice([-1, 1])
    return Defect(cover > 0.3, np.repeat(change * cover[..., None], 3, 2))


def render_pit(
    rng: np.random.Generator,
    length: float,
    strength: Range = (50, 80),
    rim: Range = (35, 55),
    aspect: Range = (0.65, 1),
    wobble: float = 0.04,
    light: float = -2.2,
    margin: int = 2,
) -> Defect:
    """Draw a crater: a dark floor, shaded away from the light, within a bright rim.

    Args:
        rng: Source of randomness.
        length: Longest side of the box in pixels.
        strength: Range of the floor's darkening in grey levels.
        rim: Range of the rim's brightening in grey levels.
        aspect: Range of the short axis over the long one.
        wobble: Relative size of the waves on the outline.
        light: Direction of the light in radians, from above left by default.
        margin: Pixels around the box.

    Returns:
        The defect; its patch is (h, h).
    """
    rho, angle = _radial(rng, length, aspect, wobble, margin)
    facing = np.cos(angle - light)
    floor = _smoothstep(rho, 0.95, 0.65) * (1 - 0.3 * facing * np.minimum(rho, 1))
    ridge = np.exp(-(((rho - 0.9) / max(0.09, 1.4 / length)) ** 2)) * (0.8 + 0.2 * facing)
    delta = rng.uniform(*rim) * ridge - rng.uniform(*strength) * floor
    return Defect(rho <= 1, np.repeat(delta[..., None], 3, 2))


def render_stain(
    rng: np.random.Generator,
    length: float,
    strength: Range = (45, 60),
    aspect: Range = (0.55, 1),
    wobble: float = 0.35,
    mottle: float = 0.12,
    margin: int = 2,
) -> Defect:
    """Draw a soft irregular blob that shifts the colour: rust, oil or a heat mark.

    Args:
        rng: Source of randomness.
        length: Longest side of the box in pixels.
        strength: Range of the shift in grey levels.
        aspect: Range of the short axis over the long one.
        wobble: Relative size of the waves on the outline.
        mottle: Relative unevenness within the blob.
        margin: Pixels around the box.

    Returns:
        The defect; its patch is (h, h).
    """
    rho, _ = _radial(rng, length, aspect, wobble, margin)
    cover = _smoothstep(rho, 1.08, 0.8) * (1 + mottle * _smooth_noise(rng, rho.shape, 5))
    tints = np.array([[-1.4, -0.9, -0.3], [-0.9, -0.7, -1.2], [0.2, -0.6, -1.2]])
    colour = rng.uniform(*strength) * tints[rng.integers(len(tints))]
    return Defect(rho <= 1, cover[..., None] * colour)


RENDERERS = (render_scratch, render_pit, render_stain)


def mask_to_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight box ``(x, y, width, height)`` in pixels of a bool mask (h, w) that is not empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def crop_defect(defect: Defect, margin: int = 2) -> Defect:
    """Cut the patch down to the defect's box and at most ``margin`` pixels around it."""
    x, y, width, height = mask_to_box(defect.mask)
    window = (
        slice(max(y - margin, 0), y + height + margin),
        slice(max(x - margin, 0), x + width + margin),
    )
    return Defect(defect.mask[window], defect.delta[window])


def _box_iou(box: tuple[int, ...], others: list[tuple[int, ...]]) -> float:
    """Largest IoU of ``box`` with ``others``, all ``(x, y, w, h)``; 0 if there are none."""
    if not others:
        return 0.0
    return float(
        coco_mask.iou(np.array([box], float), np.array(others, float), [0] * len(others)).max()
    )


def place_defect(
    rng: np.random.Generator,
    defect: Defect,
    taken: np.ndarray,
    boxes: list[tuple[int, ...]],
    max_box_iou: float,
    tries: int = 40,
) -> tuple[slice, slice] | None:
    """Look for a window of the image where the defect touches no other.

    Args:
        rng: Source of randomness.
        defect: The defect; its patch (h, w) is smaller than the image.
        taken: bool (S, S), pixels of the defects so far and their neighbours.
        boxes: Boxes of the defects so far.
        max_box_iou: Most IoU with any of them.
        tries: Random windows to try.

    Returns:
        Slices of rows and columns, or None if no window was free.
    """
    height, width = defect.mask.shape
    x0, y0, box_width, box_height = mask_to_box(defect.mask)
    for _ in range(tries):
        y = int(rng.integers(taken.shape[0] - height + 1))
        x = int(rng.integers(taken.shape[1] - width + 1))
        window = slice(y, y + height), slice(x, x + width)
        box = (x + x0, y + y0, box_width, box_height)
        if not (taken[window] & defect.mask).any() and _box_iou(box, boxes) <= max_box_iou:
            return window
    return None
