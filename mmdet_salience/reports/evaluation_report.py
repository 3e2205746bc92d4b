"""The evaluation of a detector as a page for people and a file for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ..analysis.coco_scores import MAX_DETECTIONS
from ..analysis.detection_table import EvaluatedImage
from ..analysis.evaluation_summary import choose_threshold, judge, summarize_test
from ..analysis.image_faults import ImageFaults, worst_images
from .evaluation_pictures import fault_pictures
from .page import write_page

PAGE, FIGURES = 'index.html', 'report.json'
NUM_PICTURES = 24
# More classes than these have no numbers in the confusion table, and their curves are folded.
MAX_NUMBERED, MAX_CURVES = 12, 12


def prepare_folder(folder: str | Path) -> Path:
    """Make the folder of a report and see that it can be written to.

    Args:
        folder: The folder; what is in it stays.

    Returns:
        The folder.

    Raises:
        ValueError: Nothing can be written there.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f'the report cannot be written to {folder} ({error.strerror}); name another folder'
        ) from None
    return folder


def write_evaluation_report(
    folder: str | Path,
    images: Sequence[EvaluatedImage],
    classes: Sequence[str],
    title: str = 'Evaluation',
    notes: Sequence[str] = (),
    score_thr: float | None = None,
    num_pictures: int = NUM_PICTURES,
    max_detections: int = MAX_DETECTIONS,
    backend_args: dict[str, Any] | None = None,
) -> Path:
    """Evaluate detections, and write ``index.html`` and ``report.json``.

    Older files of these names are replaced when the new ones are complete.

    Args:
        folder: Folder of the report; made if needed.
        images: Images with detections and objects, at least one.
        classes: Names of the classes.
        title: Heading of the page.
        notes: Lines under the heading, such as the names of model and data.
        score_thr: Score threshold that the page starts with and draws pictures for; None for the
            one with the best F1 at IoU 0.5.
        num_pictures: Images to show, the worst ones.
        max_detections: Detections of a class that count in an image, 100 in COCO.
        backend_args: Arguments of MMEngine's file backend, for the pictures.

    Returns:
        The page.

    Raises:
        ValueError: There is no image, a label has no class, or the folder cannot be written to.
    """
    folder = prepare_folder(folder)
    test = judge(images, classes, max_detections)
    threshold = choose_threshold(test) if score_thr is None else float(score_thr)
    worst = worst_images(test, threshold, num_pictures)
    summary = dict(
        title=title,
        notes=list(notes),
        **summarize_test(test, threshold),
        worst_images=[_image_figures(images, faults) for faults in worst],
    )
    summary['settings']['max_detections'] = max_detections
    figures = json.dumps(summary, allow_nan=False)
    page = write_page(
        folder / PAGE,
        'evaluation.html.jinja',
        title=title,
        report=summary,
        curves=order_curves(summary['precision_recall']['classes']),
        live=live_figures(summary),
        pictures=fault_pictures(images, test, worst, threshold, backend_args),
        max_numbered=MAX_NUMBERED,
        max_curves=MAX_CURVES,
    )
    draft = folder / f'.{FIGURES}.part'
    draft.write_text(figures, encoding='utf-8')
    draft.replace(folder / FIGURES)
    return page


def _image_figures(images: Sequence[EvaluatedImage], faults: ImageFaults) -> dict[str, Any]:
    """Write the faults of an image for JSON."""
    return dict(
        name=images[faults.image].name,
        objects=faults.objects,
        missed=len(faults.missed),
        false=len(faults.false),
        false_by_error=faults.kinds,
    )


def order_curves(classes: Sequence[dict[str, Any]]) -> list[int]:
    """Order the classes' curves: as they are, or from the lowest AP50 on where there are many.

    Args:
        classes: Curves of the classes.

    Returns:
        Numbers of the classes that have objects.
    """
    known = [number for number, figures in enumerate(classes) if figures['precision']]
    if len(known) <= MAX_CURVES:
        return known
    return sorted(known, key=lambda number: classes[number]['ap'][0])


def live_figures(summary: dict[str, Any]) -> dict[str, Any]:
    """Choose what the page's sliders need.

    Args:
        summary: All figures.

    Returns:
        The part of them, with curves as SVG paths.
    """
    curves = [
        dict(
            paths=[step_path(precision) for precision in figures['precision']],
            ap=figures['ap'],
            best=figures['best_f1'],
        )
        for figures in summary['precision_recall']['classes']
    ]
    thresholds, settings = summary['thresholds'], summary['settings']
    best = settings['best_threshold']
    return dict(
        thresholds=thresholds,
        start=thresholds.index(settings['score_threshold']),
        best=None if best is None else thresholds.index(best),
        found=[size['found'] for size in summary['sizes']],
        objects=[size['objects'] for size in summary['sizes']],
        errors=[error['counts'] for error in summary['errors']],
        confusion=summary['confusion'],
        ious=summary['precision_recall']['ious'],
        curves=curves,
    )


def step_path(precision: Sequence[float]) -> str:
    """Draw precision over recall as an SVG path in a square of 100 by 100.

    Args:
        precision: Precision at evenly spaced recalls from 0 to 1, at least two.

    Returns:
        The path; points within level parts are left out.
    """
    last = len(precision) - 1
    kept = [
        i
        for i, value in enumerate(precision)
        if i in (0, last) or value != precision[i - 1] or value != precision[i + 1]
    ]
    points = (f'{100 * i / last:g},{100 - 100 * precision[i]:.4g}' for i in kept)
    return 'M' + 'L'.join(points)
