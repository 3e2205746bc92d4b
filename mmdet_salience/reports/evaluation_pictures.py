"""Pictures of what went wrong in an image: found, false and missed, in three styles."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.fileio import get

from ..analysis.detection_table import EvaluatedImage
from ..analysis.evaluation_summary import Evaluated
from ..analysis.image_faults import ImageFaults
from ..visualization import draw_detections
from .page import image_uri

# Blue and vermilion of Okabe and Ito's palette, which colour-blind people can tell apart.
FOUND = (0, 114, 178)
FALSE = (213, 94, 0)
SIDE_RANGE = (512, 800)  # of the longer side in pixels
JPEG_QUALITY = 82


def read_picture(path: str, backend_args: dict[str, Any] | None = None) -> np.ndarray | None:
    """Read a picture as MMDetection does.

    Args:
        path: Path or address.
        backend_args: Arguments of MMEngine's file backend.

    Returns:
        RGB, (H, W, 3) uint8; None if it cannot be read.
    """
    try:
        picture = mmcv.imfrombytes(get(path, backend_args), channel_order='rgb')
    except (OSError, cv2.error, ValueError):
        return None
    return None if picture is None or picture.dtype != np.uint8 else picture


def drawable_name(name: str, label: int) -> str:
    """Write a class name in ASCII, as OpenCV has no other letters; the number if none is left."""
    plain = unicodedata.normalize('NFKD', name).encode('ascii', 'ignore').decode().strip()
    return plain or f'class {label}'


def draw_faults(
    picture: np.ndarray,
    image: EvaluatedImage,
    test: Evaluated,
    faults: ImageFaults,
    score_thr: float,
) -> np.ndarray:
    """Draw what was found and what not.

    Correct detections are blue, false ones vermilion. Annotated boxes are dashed; the missed ones
    have a name, and so have crowds.

    Args:
        picture: RGB image, (H, W, 3), uint8.
        image: Its detections and objects.
        test: The judged test.
        faults: What is wrong in the image.
        score_thr: Detections below this score are left out.

    Returns:
        The picture in a size for the page, (H', W', 3), uint8.
    """
    longest = max(picture.shape[:2])
    factor = float(np.clip(longest, *SIDE_RANGE)) / longest
    size = [max(1, round(side * factor)) for side in picture.shape[1::-1]]
    method = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    canvas = cv2.resize(picture, size, interpolation=method)
    found, objects = (test.table.detections_of(faults.image), test.table.objects_of(faults.image))
    shown = ~test.errors.is_kind('ignored')[found]
    is_false = np.isin(np.arange(found.start, found.stop), faults.false)
    is_lost = np.isin(np.arange(objects.start, objects.stop), faults.missed) | image.gt_crowd
    number = len(test.classes)
    drawable = [drawable_name(name, label) for label, name in enumerate(test.classes)]
    names = [*drawable, *drawable, 'crowd']
    colors = [FOUND] * number + [FALSE] * (number + 1)
    labels = image.labels + number * is_false
    boxes = image.gt_bboxes * factor
    canvas = draw_detections(
        canvas,
        image.bboxes[shown] * factor,
        labels[shown],
        image.scores[shown],
        names,
        colors,
        score_thr,
        boxes[~is_lost],
    )
    gt_labels = np.where(image.gt_crowd, 2 * number, image.gt_labels)[is_lost]
    nothing = np.zeros((0, 4)), np.zeros(0), np.zeros(0)
    return draw_detections(canvas, *nothing, names, colors, 0.0, boxes[is_lost], gt_labels)


def describe_faults(faults: ImageFaults) -> str:
    """Write what is wrong in an image, in a line."""
    number, missed = len(faults.false), len(faults.missed)
    parts = [f'{missed} of {faults.objects} objects missed'] if missed else []
    if number:
        kinds = ', '.join(f'{count} {kind}' for kind, count in faults.kinds.items())
        parts.append(f'{number} false detection{"s" * (number > 1)} ({kinds})')
    return '; '.join(parts)


def fault_pictures(
    images: Sequence[EvaluatedImage],
    test: Evaluated,
    worst: Sequence[ImageFaults],
    score_thr: float,
    backend_args: dict[str, Any] | None = None,
) -> list[dict[str, str | None]]:
    """Draw images with faults for the page, one after the other.

    Args:
        images: All images.
        test: The judged test.
        worst: What is wrong in the images to draw.
        score_thr: Detections below this score are left out.
        backend_args: Arguments of MMEngine's file backend.

    Returns:
        For each its ``name``, ``caption`` and ``uri``; the address is None where the picture
        cannot be read.
    """
    pictures: list[dict[str, str | None]] = []
    for faults in worst:
        image = images[faults.image]
        picture = read_picture(image.path, backend_args)
        uri = None
        if picture is not None:
            drawn = draw_faults(picture, image, test, faults, score_thr)
            uri = image_uri(drawn, quality=JPEG_QUALITY)
        pictures.append(dict(name=image.name, caption=describe_faults(faults), uri=uri))
    return pictures
