"""Pure drawing functions for detections and salience maps; no window, no global state.

Images are (H, W, 3) uint8 RGB arrays, boxes are (N, 4) ``x1, y1, x2, y2`` in image pixels.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)


class PanelRow(NamedTuple):
    """One picture of a demo panel with everything that is drawn on it.

    Attributes:
        image: RGB image, (H, W, 3), uint8.
        heat: Salience per pixel in 0..1, (H, W).
        bboxes: Detected boxes, (N, 4).
        labels: Class index of each detection, (N,).
        scores: Score of each detection, (N,).
        gt_bboxes: Annotated boxes, (M, 4).
        gt_labels: Class index of each annotated box, (M,).
        caption: Short text at the left of the row.
    """

    image: np.ndarray
    heat: np.ndarray
    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    gt_bboxes: np.ndarray
    gt_labels: np.ndarray
    caption: str = ''


def salience_heatmap(
    levels: Sequence[np.ndarray],
    image_shape: tuple[int, int],
    content_shape: tuple[int, int] | None = None,
    canvas_shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Merge the salience logits of one image into one map at image resolution.

    ::

        canvas (padded batch)      content (resized image)      image
        +-----------+---+
        |  content  |pad|   crop   +-----------+   resize   +-------+
        +-----------+   |  ----->  |           |  ------->  |       |
        |      pad      |          +-----------+            +-------+
        +---------------+

    Args:
        levels: Logits of each level, (H_l, W_l), each covering the whole canvas.
        image_shape: Height and width of the returned map.
        content_shape: Height and width that the image fills in the canvas, from its top left
            corner. Defaults to ``image_shape``, which means the image was not resized.
        canvas_shape: Height and width of the padded canvas. Defaults to ``content_shape``,
            which means there is no padding.

    Returns:
        Largest probability over the levels at each pixel, (H, W), float32 in 0..1.

    Raises:
        ValueError: If there is no level, a level is not a 2-D map, or the content is larger
            than the canvas.
    """
    if not levels or any(np.ndim(level) != 2 for level in levels):
        raise ValueError(
            'levels must hold at least one (H_l, W_l) map of one image, got '
            f'shapes {[np.shape(level) for level in levels]}'
        )
    probabilities = [sigmoid(np.asarray(level, dtype=np.float32)) for level in levels]
    maps = [map_to_image(p, image_shape, content_shape, canvas_shape) for p in probabilities]
    return np.maximum.reduce(maps)


def map_to_image(
    values: np.ndarray,
    image_shape: tuple[int, int],
    content_shape: tuple[int, int] | None = None,
    canvas_shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Resize a map over the canvas to the image, as drawn in :func:`salience_heatmap`.

    Args:
        values: Values in 0..1 over the whole canvas, (H_l, W_l).
        image_shape: Height and width of the returned map.
        content_shape: Height and width that the image fills in the canvas, from its top left
            corner. Defaults to ``image_shape``.
        canvas_shape: Height and width of the padded canvas. Defaults to ``content_shape``.

    Returns:
        (H, W), float32 in 0..1, interpolated linearly.

    Raises:
        ValueError: If the content is larger than the canvas.
    """
    content_h, content_w = content_shape or image_shape
    canvas_h, canvas_w = canvas_shape or (content_h, content_w)
    if content_h > canvas_h or content_w > canvas_w:
        raise ValueError(
            f'content_shape {(content_h, content_w)} must fit into '
            f'canvas_shape {(canvas_h, canvas_w)}'
        )
    canvas = cv2.resize(
        np.asarray(values, dtype=np.float32), (canvas_w, canvas_h), interpolation=cv2.INTER_LINEAR
    )
    content = canvas[:content_h, :content_w]
    height, width = image_shape
    return cv2.resize(content, (width, height), interpolation=cv2.INTER_LINEAR).clip(0.0, 1.0)


def overlay_heatmap(
    image: np.ndarray, heat: np.ndarray, alpha: float = 0.6, colormap: str = 'viridis'
) -> np.ndarray:
    """Blend a map over an image in colours that colour-blind readers can tell apart.

    Args:
        image: RGB image, (H, W, 3), uint8.
        heat: Values in 0..1, (H, W); values outside are clipped.
        alpha: Share of the map's colour in the result, 0 (image only) to 1 (map only).
        colormap: Name of a perceptually uniform matplotlib colormap, such as ``'viridis'``,
            ``'cividis'`` or ``'magma'``.

    Returns:
        The blend, (H, W, 3), uint8.

    Raises:
        ValueError: If the map and the image differ in size or ``alpha`` is outside 0..1.
    """
    if heat.shape != image.shape[:2]:
        raise ValueError(f'heat {heat.shape} must have the size of the image {image.shape[:2]}')
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f'alpha must lie in 0..1, got {alpha}')
    colors = matplotlib.colormaps[colormap](heat.clip(0.0, 1.0))[..., :3] * 255.0
    return np.rint((1.0 - alpha) * image + alpha * colors).astype(np.uint8)


def draw_detections(
    image: np.ndarray,
    bboxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Color],
    score_thr: float,
    gt_bboxes: np.ndarray | None = None,
    gt_labels: np.ndarray | None = None,
    min_side: int = 512,
) -> np.ndarray:
    """Draw detections, and the ground truth as dashed white boxes, over an enlarged image.

    A small image is enlarged before anything is drawn, so that lines and letters stay crisp.

    Args:
        image: RGB image, (H, W, 3), uint8.
        bboxes: Detected boxes, (N, 4).
        labels: Class index of each detection, (N,).
        scores: Score of each detection, (N,).
        classes: Class names.
        palette: RGB colour of each class.
        score_thr: Detections below this score are left out.
        gt_bboxes: Annotated boxes, (M, 4), if they are to be drawn.
        gt_labels: Class index of each annotated box, (M,), if they are to be named.
        min_side: The longer side of the picture becomes at least this many pixels.

    Returns:
        The picture, (H', W', 3), uint8, enlarged by a whole factor.

    Raises:
        ValueError: If a label has no class name or no colour.
    """
    named = min(len(classes), len(palette))
    for values in (labels, gt_labels):
        if values is not None and len(values) and np.max(values) >= named:
            raise ValueError(
                f'label {np.max(values)} needs a name and a colour, but classes '
                f'and palette cover only {named} classes'
            )
    canvas, factor = _enlarge(image, min_side)
    for i, box in enumerate([] if gt_bboxes is None else np.asarray(gt_bboxes)):
        _draw_dashed_box(canvas, box * factor)
        if gt_labels is not None:
            _draw_label(canvas, box * factor, classes[gt_labels[i]], WHITE)
    for i in np.argsort(scores, kind='stable'):  # the most certain ones on top
        if scores[i] < score_thr:
            continue
        color = palette[labels[i]]
        box = np.asarray(bboxes[i]) * factor
        _draw_box(canvas, box, color)
        _draw_label(canvas, box, f'{classes[labels[i]]} {scores[i]:.2f}', color)
    return canvas


def demo_panel(
    rows: Sequence[PanelRow],
    out_file: str | Path,
    classes: Sequence[str],
    palette: Sequence[Color],
    score_thr: float = 0.3,
    colormap: str = 'viridis',
    cell_inches: float = 3.6,
    dpi: int = 140,
) -> Path:
    """Save a PNG with one row a picture: ground truth, detections, salience.

    Args:
        rows: The pictures.
        out_file: Path of the PNG; its folder is created.
        classes: Class names.
        palette: RGB colour of each class.
        score_thr: Detections below this score are left out.
        colormap: Colormap of the salience.
        cell_inches: Width and height of a cell.
        dpi: Pixels an inch.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: If there are no rows.
    """
    if not rows:
        raise ValueError('demo_panel needs at least one row')
    size = (3 * cell_inches + 0.6, len(rows) * cell_inches + 0.4)
    figure = Figure(figsize=size, dpi=dpi, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 3, squeeze=False)
    titles = ('ground truth', f'detections (score \u2265 {score_thr:g})', 'salience')
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    for row_axes, row in zip(axes, rows, strict=True):
        pictures = _row_pictures(row, (classes, palette, score_thr), colormap)
        for axis, picture in zip(row_axes, pictures, strict=True):
            axis.imshow(picture, interpolation='antialiased')
            axis.set_xticks([])
            axis.set_yticks([])
        row_axes[0].set_ylabel(row.caption)
    figure.colorbar(ScalarMappable(cmap=colormap), ax=axes[:, 2].tolist(), fraction=0.05)
    out_file = Path(out_file)
    out_file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_file, format='png')
    return out_file


def _row_pictures(
    row: PanelRow, style: tuple[Sequence[str], Sequence[Color], float], colormap: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the cells of a row, each (H', W', 3); style is classes, palette and threshold."""
    nothing = np.zeros((0, 4)), np.zeros(0), np.zeros(0)
    truth = draw_detections(row.image, *nothing, *style, row.gt_bboxes, row.gt_labels)
    detections = row.bboxes, row.labels, row.scores
    found = draw_detections(row.image, *detections, *style, row.gt_bboxes)
    salient, _ = _enlarge(overlay_heatmap(row.image, row.heat, colormap=colormap), min_side=512)
    return truth, found, salient


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Sigmoid that does not overflow for large logits of either sign; any shape."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def _enlarge(image: np.ndarray, min_side: int) -> tuple[np.ndarray, int]:
    """Copy an image, enlarged by the whole factor that brings its longer side to min_side."""
    height, width = image.shape[:2]
    factor = max(1, ceil(min_side / max(height, width)))
    size = (width * factor, height * factor)
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_CUBIC), factor


def _line_width(canvas: np.ndarray, side_per_pixel: int = 256) -> int:
    """Line width in pixels that suits the size of the canvas."""
    return max(1, round(max(canvas.shape[:2]) / side_per_pixel))


def _draw_box(canvas: np.ndarray, box: np.ndarray, color: Color) -> None:
    """Draw a solid box in place."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), color, _line_width(canvas), cv2.LINE_AA)


def _draw_dashed_box(canvas: np.ndarray, box: np.ndarray, dash: int = 6) -> None:
    """Draw a thin dashed white box with dark gaps in place, readable on any background."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), BLACK, 1)
    for x in range(x1, x2, 2 * dash):
        for y in (y1, y2):
            cv2.line(canvas, (x, y), (min(x + dash, x2), y), WHITE, 1)
    for y in range(y1, y2, 2 * dash):
        for x in (x1, x2):
            cv2.line(canvas, (x, y), (x, min(y + dash, y2)), WHITE, 1)


def _draw_label(canvas: np.ndarray, box: np.ndarray, text: str, color: Color, pad: int = 2) -> None:
    """Write text on a plate of the given colour above a box, moved inside the canvas."""
    height, width = canvas.shape[:2]
    scale = max(0.45, max(height, width) / 1100)
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_w, text_h), base = cv2.getTextSize(text, font, scale, 1)
    plate_w, plate_h = text_w + 2 * pad, text_h + base + pad
    left = int(np.clip(box[0], 0, max(0, width - plate_w)))
    top = int(box[1]) - plate_h if box[1] >= plate_h else int(box[3])
    top = int(np.clip(top, 0, max(0, height - plate_h)))
    cv2.rectangle(canvas, (left, top), (left + plate_w, top + plate_h), color, cv2.FILLED)
    luminance = float(np.dot(color, (0.299, 0.587, 0.114)))
    ink = BLACK if luminance > 140 else WHITE
    cv2.putText(canvas, text, (left + pad, top + text_h + pad), font, scale, ink, 1, cv2.LINE_AA)
