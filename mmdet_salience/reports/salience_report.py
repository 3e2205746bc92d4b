"""Page of inspected images: detections, salience, updated tokens and queries, image by image.

An image becomes a record for the page's script. What belongs to cells is packed: salience as a byte
a cell, updated tokens as a bit, both in Base64, level after level and row after row.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ..analysis.matching import MatchCounts, count_matches, match_detections
from ..apis.inspection import ImageInspection, Objects, QueryPoints
from ..visualization import colors
from ..visualization.inspection_axes import class_name, strides
from .page import image_uri, write_page

TEMPLATE = 'salience.html.jinja'
# A page of another kind under the same name is not replaced.
PAGE_MARK = 'id="salience-report"'
# The page's threshold starts here: there are hundreds of detections below.
LEAST_SCORE = 0.05
IOU_THR = 0.5
THUMB_SIDE = 128
JPEG_QUALITY = 82
# Colours of cells by level, finest first, other than those of boxes; they repeat.
LEVEL_COLORS = ('#CC79A7', '#E69F00', '#009E73', '#CCCCCC', '#0072B2')
COLORMAP_STEPS = 64


def image_record(
    inspection: ImageInspection,
    classes: Sequence[str],
    max_side: int = 1024,
    least_score: float = LEAST_SCORE,
) -> dict[str, Any]:
    """Describe an image for the page.

    Args:
        inspection: The image.
        classes: Class names.
        max_side: Its picture is shrunk to this longer side in pixels.
        least_score: Detections below this score are left out.

    Returns:
        What the page's script reads, ready for JSON.
    """
    height, width = inspection.image.shape[:2]
    truth = inspection.ground_truth
    levels = range(len(inspection.level_shapes))
    targets = inspection.salience_targets
    return dict(
        name=Path(inspection.path).name or 'image',
        path=inspection.path,
        width=width,
        height=height,
        picture=image_uri(inspection.image, max_side, JPEG_QUALITY),
        thumb=image_uri(inspection.image, THUMB_SIDE, JPEG_QUALITY),
        detections=describe_detections(inspection, classes, least_score),
        objects=None if truth is None else describe_objects(truth, classes),
        levels=[describe_level(inspection, level) for level in levels],
        salience=pack_maps(inspection, inspection.salience),
        targets=None if targets is None else pack_maps(inspection, targets),
        layers=[pack_layer(inspection, layer) for layer in range(len(inspection.layer_tokens))],
        queries=describe_queries(inspection.candidates, inspection.queries),
    )


def describe_objects(objects: Objects, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Write boxes and class names of annotated objects for the page."""
    finite = np.nan_to_num(np.asarray(objects.bboxes, dtype=float), posinf=0, neginf=0)
    boxes = np.round(finite, 1).tolist()
    return [
        dict(box=box, name=class_name(classes, label))
        for box, label in zip(boxes, objects.labels.tolist(), strict=True)
    ]


def describe_detections(
    inspection: ImageInspection, classes: Sequence[str], least_score: float
) -> list[dict[str, Any]]:
    """Write an image's detections for the page.

    Args:
        inspection: The image.
        classes: Class names.
        least_score: Detections below this score are left out.

    Returns:
        For each its box, class, score and the number of the object that it found: -1 for none, and
        where objects are unknown.
    """
    found, truth = inspection.detections, inspection.ground_truth
    matches = np.full(len(found.labels), -1)
    if truth is not None:
        matches = match_detections(*found, truth.bboxes, truth.labels, IOU_THR)
    scores = np.floor(1e4 * np.nan_to_num(found.scores).astype(float)) / 1e4  # never more certain
    rows = describe_objects(found, classes)
    for row, score, match in zip(rows, scores.tolist(), matches.tolist(), strict=True):
        row.update(score=score, match=match)
    return [row for row in rows if row['score'] >= least_score]


def describe_level(inspection: ImageInspection, level: int) -> dict[str, Any]:
    """Write the grid of a level for the page.

    Args:
        inspection: The image.
        level: The level, 0 the finest.

    Returns:
        Its stride, rows and columns, and the size of a cell in pixels of the image.
    """
    rows, columns = inspection.level_shapes[level]
    _, _, width, height = inspection.cell_boxes(level)[0].tolist()
    return dict(
        stride=strides(inspection)[level],
        rows=rows,
        columns=columns,
        width=round(width, 4),
        height=round(height, 4),
    )


def pack_maps(inspection: ImageInspection, maps: Sequence[np.ndarray]) -> str:
    """Pack the values of maps at the centres of the cells.

    Args:
        inspection: The image.
        maps: For each level a map, (H, W), in 0..1.

    Returns:
        A byte a cell, 255 for 1, in Base64; cells of the padding repeat the image's border.
    """
    limits = np.array(inspection.image.shape[1::-1]) - 1
    parts = []
    for level, values in enumerate(maps):
        boxes = inspection.cell_boxes(level)
        centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int)
        x, y = np.minimum(centers, limits).T
        parts.append(np.rint(255 * np.nan_to_num(values[y, x]).clip(0, 1)).astype(np.uint8))
    return base64.b64encode(np.concatenate(parts).tobytes()).decode()


def pack_layer(inspection: ImageInspection, layer: int) -> str:
    """Pack which tokens an encoder layer updates: a bit each, the first highest, in Base64."""
    mask = np.concatenate([level.ravel() for level in inspection.layer_masks(layer)])
    return base64.b64encode(np.packbits(mask).tobytes()).decode()


def describe_queries(best: QueryPoints, chosen: QueryPoints) -> dict[str, list[int]]:
    """Write queries for the page.

    Args:
        best: The best tokens by class.
        chosen: The tokens that became queries.

    Returns:
        Numbers of the tokens: ``kept`` are in both, ``removed`` in the first and ``added`` in the
        second alone.
    """
    kept = np.isin(best.tokens, chosen.tokens)
    added = ~np.isin(chosen.tokens, best.tokens)
    return dict(
        kept=best.tokens[kept].tolist(),
        removed=best.tokens[~kept].tolist(),
        added=chosen.tokens[added].tolist(),
    )


def count_image(inspection: ImageInspection, score_thr: float) -> MatchCounts | None:
    """Count what was found and missed in an image; None where the objects are unknown."""
    found, truth = inspection.detections, inspection.ground_truth
    if truth is None:
        return None
    matches = match_detections(*found, truth.bboxes, truth.labels, IOU_THR)
    return count_matches(matches, found.scores, len(truth.labels), score_thr)


def page_colors() -> dict[str, Any]:
    """Colours for the page's script, those of the figures."""
    steps = np.linspace(0, 1, COLORMAP_STEPS)
    table = np.rint(255 * matplotlib.colormaps[colors.SALIENCE_MAP](steps)[:, :3]).astype(int)
    return dict(
        found=colors.FOUND,
        false=colors.FALSE,
        missed=colors.MISSED,
        object=colors.OBJECT,
        kept=colors.KEPT,
        removed=colors.REMOVED,
        added=colors.ADDED,
        levels=LEVEL_COLORS,
        map=table.tolist(),
    )


def is_own_page(path: Path) -> bool:
    """Whether a file is a page that :func:`write_salience_report` wrote."""
    return PAGE_MARK in path.read_text(encoding='utf-8', errors='replace')


def write_salience_report(
    path: Path,
    records: Sequence[dict[str, Any]],
    score_thr: float = 0.3,
    facts: dict[str, str] | None = None,
    least_score: float = LEAST_SCORE,
) -> Path:
    """Write the page.

    Args:
        path: The file; an older one is replaced at once.
        records: From :func:`image_record`, at least one.
        score_thr: Where the threshold stands first.
        facts: What was looked at, texts by title.
        least_score: What the records were made with.

    Returns:
        The file.

    Raises:
        ValueError: There are no records.
    """
    if not records:
        raise ValueError('a page needs at least one image')
    first = records[0]
    return write_page(
        path,
        TEMPLATE,
        title='What the detector looks at',
        data=dict(images=records, colors=page_colors()),
        facts=facts or {},
        colors=page_colors(),
        has_truth=any(record['objects'] is not None for record in records),
        num_layers=len(first['layers']),
        strides=[level['stride'] for level in first['levels']],
        score_thr=max(score_thr, least_score),
        least_score=least_score,
        iou_thr=IOU_THR,
    )
