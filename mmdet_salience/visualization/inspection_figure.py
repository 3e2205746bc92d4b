"""One figure for an inspected image: what was found, and what the detector looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from ..apis.inspection import ImageInspection
from . import colors
from .inspection_axes import strides
from .inspection_panels import draw_cells, draw_map, draw_queries, query_legend
from .outcome_panel import Matched, draw_outcome, match_inspection, outcome_legend

WIDTH_INCHES = 14.0
# Panels of longer images are narrower than their place, those of flatter ones lower.
ASPECTS = (0.3, 1.5)
HEADING_INCHES = 0.4
BAR_INCHES = 0.95
POINTS_PER_INCH = 72
LEGEND_COLUMNS = 11


def draw_inspection(
    inspection: ImageInspection,
    out_file: Path,
    classes: Sequence[str],
    score_thr: float = 0.3,
    dpi: int = 110,
) -> Path:
    """Save the figure of an image.

    ::

        detections              best tokens by class    queries after removal
        salience, level 0       level 1                 ...
        its target, level 0     level 1                 ...  (with ground truth)
        tokens, level 0         level 1                 ...

    Args:
        inspection: The image.
        out_file: PNG to write; its folder is made, an older file is replaced at once.
        classes: Class names.
        score_thr: Detections below this score are left out.
        dpi: Pixels an inch; the figure is 14 inches wide.

    Returns:
        The file.
    """
    height, width = inspection.image.shape[:2]
    aspect = float(np.clip(height / width, *ASPECTS))
    map_rows = 1 if inspection.salience_targets is None else 2
    cell = (WIDTH_INCHES - BAR_INCHES) / len(inspection.level_shapes) * aspect
    heights = [
        WIDTH_INCHES / 3 * aspect + 3 * HEADING_INCHES,
        map_rows * cell + HEADING_INCHES,
        cell + 1.5 * HEADING_INCHES,
    ]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), dpi=dpi, layout='constrained')
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(3, 1, height_ratios=heights)
    objects, maps, tokens = parts
    objects.suptitle(f'{Path(inspection.path).name or "image"}, {width} × {height} pixels')
    fill_objects(objects, inspection, match_inspection(inspection, score_thr), classes, score_thr)
    fill_maps(maps, inspection)
    fill_tokens(tokens, inspection)
    return save_png(figure, out_file)


def save_png(figure: Figure, out_file: Path) -> Path:
    """Save a figure; its folder is made, an older file is replaced at once."""
    out_file.parent.mkdir(parents=True, exist_ok=True)
    draft = out_file.with_name(f'.{out_file.name}.part')
    figure.savefig(draft, format='png')
    draft.replace(out_file)
    return out_file


def describe_outcome(matched: Matched, score_thr: float) -> str:
    """Sum up detections in two lines.

    Args:
        matched: Detections above the threshold.
        score_thr: The threshold.

    Returns:
        The text.
    """
    number = len(matched.labels)
    shown = f'{number} detection{"" if number == 1 else "s"}, score ≥ {score_thr:g}'
    if matched.counts is None:
        return f'{shown}\nobjects unknown'
    total, found, missed, false = matched.counts
    return f'{shown}\n{total} objects: {found} found, {missed} missed; {false} false (IoU ≥ 0.5)'


def fill_objects(
    figure: SubFigure,
    inspection: ImageInspection,
    matched: Matched,
    classes: Sequence[str],
    score_thr: float,
) -> None:
    """Draw detections, and queries before and after redundancy removal.

    Args:
        figure: Where to draw.
        inspection: The image.
        matched: Its detections.
        classes: Class names.
        score_thr: Their least score.
    """
    left, middle, right = figure.subplots(1, 3)
    height, width = inspection.image.shape[:2]
    place = WIDTH_INCHES / 3 * min(1.0, ASPECTS[1] * width / height)
    draw_outcome(left, inspection, matched, classes, place * POINTS_PER_INCH)
    left.set_title(describe_outcome(matched, score_thr), fontsize=10)
    best, chosen = inspection.candidates, inspection.queries
    removed = ~np.isin(best.tokens, chosen.tokens)
    added = ~np.isin(chosen.tokens, best.tokens)
    draw_queries(middle, inspection, best, removed, colors.REMOVED)
    middle.set_title(
        f'Best {len(best.tokens)} tokens by class\n{removed.sum()} of them redundant', fontsize=10
    )
    draw_queries(right, inspection, chosen, added, colors.ADDED)
    right.set_title(
        f'{len(chosen.tokens)} queries after redundancy removal\n{added.sum()} of them new',
        fontsize=10,
    )
    entries = outcome_legend(matched.counts is not None) + query_legend(strides(inspection))
    figure.legend(
        handles=entries,
        loc='outside lower center',
        ncols=min(len(entries), LEGEND_COLUMNS),
        fontsize=8,
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.0,
    )


def fill_maps(figure: SubFigure, inspection: ImageInspection) -> None:
    """Draw the salience of each level, and under it what it is supervised with.

    Args:
        figure: Where to draw.
        inspection: The image.
    """
    rows = [('predicted salience', inspection.salience)]
    if inspection.salience_targets is not None:
        rows.append(('target', inspection.salience_targets))
    axes = figure.subplots(len(rows), len(inspection.salience), squeeze=False)
    for row, (label, maps) in zip(axes, rows, strict=True):
        row[0].set_ylabel(label)
        for panel, values in zip(row, maps, strict=True):
            bar = draw_map(panel, inspection, values)
    for panel, stride in zip(axes[0], strides(inspection), strict=True):
        panel.set_title(f'salience, stride {stride}', fontsize=10)
    figure.colorbar(bar, ax=axes, fraction=0.02, pad=0.01, aspect=30)


def fill_tokens(figure: SubFigure, inspection: ImageInspection) -> None:
    """Draw how many encoder layers update each token, and count the tokens of each layer.

    Args:
        figure: Where to draw.
        inspection: The image.
    """
    axes = figure.subplots(1, len(inspection.level_shapes), squeeze=False)
    layers = range(len(inspection.layer_tokens))
    masks = [inspection.layer_masks(layer) for layer in layers]
    for level, (panel, stride) in enumerate(zip(axes[0], strides(inspection), strict=True)):
        bar = draw_cells(panel, inspection, level)
        counts = ' · '.join(str(mask[level].sum()) for mask in masks)
        size = masks[0][level].size
        panel.set_title(f'tokens updated, stride {stride} ({size} tokens)', fontsize=10)
        panel.set_xlabel(f'layer by layer: {counts}', fontsize=8.5)
    axes[0, 0].set_ylabel('encoder')
    scale = figure.colorbar(bar, ax=axes, fraction=0.02, pad=0.01, aspect=20)
    scale.minorticks_off()
    scale.set_ticks([layer + 1 for layer in layers])
    scale.set_label('layers that update it')
