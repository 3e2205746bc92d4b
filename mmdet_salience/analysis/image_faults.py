"""The images of a test in which most is wrong."""

from typing import NamedTuple

import numpy as np

from .detection_errors import FALSE_KINDS
from .evaluation_summary import Evaluated


class ImageFaults(NamedTuple):
    """What is wrong in an image at a score threshold.

    Attributes:
        image: Number of the image.
        objects: Objects of the image.
        missed: Rows of the objects that no detection found.
        false: Rows of the false detections.
        kinds: Number of false detections by error type, those that occur.
    """

    image: int
    objects: int
    missed: np.ndarray
    false: np.ndarray
    kinds: dict[str, int]


def worst_images(test: Evaluated, score_thr: float, number: int) -> list[ImageFaults]:
    """Find the images with most missed objects and false detections.

    Args:
        test: The judged test.
        score_thr: Detections below this score are dropped.
        number: Images to return.

    Returns:
        The images with faults, worst first; equal ones by the scores of the false detections.
    """
    table, errors = test.table, test.errors
    missed = ~table.gt_crowd & (errors.found_scores < score_thr)
    false = errors.is_kind(*FALSE_KINDS) & (table.scores >= score_thr)
    faults = np.bincount(table.gt_images[missed], minlength=table.num_images)
    faults += np.bincount(table.images[false], minlength=table.num_images)
    weights = np.bincount(table.images[false], table.scores[false], table.num_images)
    order = np.lexsort((-weights, -faults))
    return [_faults_of(test, i, missed, false) for i in order[:number].tolist() if faults[i]]


def _faults_of(test: Evaluated, image: int, missed: np.ndarray, false: np.ndarray) -> ImageFaults:
    """Collect the faults of an image from those of all, (G,) and (D,) bool."""
    found, objects = test.table.detections_of(image), test.table.objects_of(image)
    false_rows = found.start + np.flatnonzero(false[found])
    counts = {kind: int(test.errors.is_kind(kind)[false_rows].sum()) for kind in FALSE_KINDS}
    return ImageFaults(
        image,
        int((~test.table.gt_crowd[objects]).sum()),
        objects.start + np.flatnonzero(missed[objects]),
        false_rows,
        {kind: count for kind, count in counts.items() if count},
    )
