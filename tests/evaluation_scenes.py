"""Made-up detections and objects for tests of evaluations."""

from collections.abc import Sequence

import numpy as np

from mmdet_salience.analysis.coco_scores import CocoScores, evaluate_coco
from mmdet_salience.analysis.detection_errors import DetectionErrors, classify_detections
from mmdet_salience.analysis.detection_table import DetectionTable, EvaluatedImage, join_images

Box = Sequence[float]


def make_image(
    found: Sequence[tuple[Box, int, float]] = (),
    objects: Sequence[tuple[Box, int]] = (),
    crowds: Sequence[tuple[Box, int]] = (),
    name: str = 'image.png',
    path: str = 'none.png',
) -> EvaluatedImage:
    """An image from (box, label, score) of detections and (box, label) of objects and crowds."""
    truth = [*objects, *crowds]
    gt_bboxes = np.array([box for box, _ in truth], dtype=float).reshape(-1, 4)
    return EvaluatedImage(
        name=name,
        path=path,
        bboxes=np.array([box for box, _, _ in found], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _ in found], dtype=int),
        scores=np.array([score for _, _, score in found], dtype=np.float32),
        gt_bboxes=gt_bboxes,
        gt_labels=np.array([label for _, label in truth], dtype=int),
        gt_areas=(gt_bboxes[:, 2:] - gt_bboxes[:, :2]).prod(axis=1),
        gt_crowd=np.arange(len(truth)) >= len(objects),
    )


def random_images(
    num_images: int = 30, num_classes: int = 3, seed: int = 0, crowd: float = 0.1
) -> list[EvaluatedImage]:
    """Images with correct, shifted, mislabelled and free detections of up to five objects each."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(num_images):
        boxes = random_boxes(rng, rng.integers(0, 6))
        labels = rng.integers(0, num_classes, len(boxes))
        chosen = rng.integers(0, max(len(boxes), 1), rng.integers(0, 20) if len(boxes) else 0)
        shifted = boxes[chosen] + rng.normal(0, 6, (len(chosen), 4))
        shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
        free = random_boxes(rng, rng.integers(0, 4))
        guesses = np.where(
            rng.random(len(chosen)) < 0.8, labels[chosen], rng.integers(0, num_classes, len(chosen))
        )
        images.append(
            EvaluatedImage(
                name=f'{number}.png',
                path='none.png',
                bboxes=np.concatenate([shifted, free]),
                labels=np.concatenate([guesses, rng.integers(0, num_classes, len(free))]),
                scores=rng.random(len(chosen) + len(free)).round(2),  # some are equal
                gt_bboxes=boxes,
                gt_labels=labels,
                gt_areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
                gt_crowd=rng.random(len(boxes)) < crowd,
            )
        )
    return images


def random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    """Boxes of all COCO sizes within 300 pixels, (number, 4)."""
    corners = rng.uniform(0, 150, (number, 2))
    return np.hstack([corners, corners + rng.uniform(10, 150, (number, 2))])


def judge_images(
    images: Sequence[EvaluatedImage], num_classes: int = 3
) -> tuple[DetectionTable, CocoScores, DetectionErrors]:
    """Table, COCO's evaluation and error types of some images."""
    table = join_images(images)
    coco = evaluate_coco(table, num_classes)
    return table, coco, classify_detections(table, coco.matches[0], coco.ignored[0])
