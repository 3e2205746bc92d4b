"""Precision, recall and AP by hand, and against pycocotools on its own."""

import contextlib
import io

import numpy as np
import pytest
from evaluation_scenes import judge_images, make_image, random_images
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_salience.analysis.coco_scores import IOU_THRESHOLDS
from mmdet_salience.analysis.evaluation_summary import judge
from mmdet_salience.analysis.precision_recall import (
    average_precision,
    best_f1,
    interpolate,
    precision_recall,
)


def curve_of(scores, correct, num_objects):
    return precision_recall(np.array(scores), np.array(correct, bool), num_objects)


def test_curve_of_three_detections():
    curve = curve_of([0.7, 0.9, 0.8], [1, 1, 0], 2)
    assert curve.scores.tolist() == [0.9, 0.8, 0.7]
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1 / 2, 1])


def test_average_precision_of_three_detections():
    curve = curve_of([0.9, 0.8, 0.7], [1, 0, 1], 2)
    # Recalls 0, 0.01, ... 0.50 have precision 1, the other 50 have 2/3.
    np.testing.assert_allclose(interpolate(curve)[[0, 50, 51, 100]], [1, 1, 2 / 3, 2 / 3])
    assert average_precision(curve) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_recall_that_is_never_reached_counts_zero():
    assert average_precision(curve_of([0.9], [1], 4)) == pytest.approx(26 / 101)
    assert average_precision(curve_of([0.9, 0.8], [0, 0], 4)) == 0
    assert average_precision(curve_of([], [], 4)) == 0


def test_best_f1_by_hand():
    # F1 of the first 1, 2, 3 and 4: 2/3, 1/2, 4/5, 2/3.
    best = best_f1(curve_of([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 2))
    assert best == pytest.approx((0.7, 0.8, 2 / 3, 1))


def test_best_f1_keeps_equal_scores_together():
    # The correct detection cannot be kept without the false ones of the same score.
    best = best_f1(curve_of([0.5, 0.5, 0.5], [1, 0, 0], 1))
    assert best == pytest.approx((0.5, 0.5, 1 / 3, 1))


def test_no_best_f1_without_a_correct_detection():
    assert best_f1(curve_of([0.9], [0], 2)) is None
    assert best_f1(curve_of([], [], 2)) is None
    assert best_f1(curve_of([0.9], [0], 0)) is None


@pytest.mark.parametrize('seed', range(3))
def test_curves_have_the_ap_of_coco(seed):
    test = judge(random_images(seed=seed), 'abc')
    assert test.table.gt_crowd.any()
    for number, iou in enumerate(IOU_THRESHOLDS):
        for label in range(3):
            ap = average_precision(test.curve(number, label))
            assert ap == pytest.approx(test.coco.mean(label, iou=iou), abs=1e-9)


def coco_alone(images):
    """Twelve figures of pycocotools, from files as it reads them, with ids of its own."""
    boxes = lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]]  # noqa: E731
    truth, found = [], []
    for number, image in enumerate(images):
        columns = (image.gt_bboxes, image.gt_labels, image.gt_areas, image.gt_crowd)
        for box, label, area, crowd in zip(*(c.tolist() for c in columns), strict=True):
            truth.append(
                dict(id=len(truth) + 50, image_id=7 * number, category_id=label + 20)
                | dict(bbox=boxes(box), area=area, iscrowd=int(crowd))
            )
        columns = (image.bboxes, image.labels, image.scores)
        for box, label, score in zip(*(c.tolist() for c in columns), strict=True):
            found.append(
                dict(image_id=7 * number, category_id=label + 20, bbox=boxes(box), score=score)
            )
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=7 * number) for number in range(len(images))],
        categories=[dict(id=20 + label) for label in range(3)],
        annotations=truth,
        info={},
    )
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize('seed', range(3))
def test_figures_are_those_of_pycocotools(seed):
    images = random_images(seed=seed)
    _, coco, _ = judge_images(images)
    ours = [coco.mean(), coco.mean(iou=0.5), coco.mean(iou=0.75)]
    ours += [coco.mean(area=area) for area in ('small', 'medium', 'large')]
    assert 0.05 < ours[0] < 0.9
    assert ours == pytest.approx(coco_alone(images)[:6].tolist(), abs=1e-6)


def test_matches_name_objects_and_ignore_crowds():
    box, crowd = (0, 0, 10, 10), (20, 20, 60, 60)
    found = [(box, 0, 0.9), (box, 0, 0.8), ((22, 22, 32, 32), 1, 0.7), ((22, 22, 32, 32), 0, 0.6)]
    first = make_image(objects=[((50, 50, 60, 60), 2)])
    table, coco, _ = judge_images([first, make_image(found, [(box, 0)], [(crowd, 1)])])
    assert table.gt_images.tolist() == [0, 1, 1]
    assert coco.matches[0].tolist() == [1, -1, 2, -1]
    assert coco.ignored[0].tolist() == [False, False, True, False]


def test_only_the_best_of_a_class_count():
    box = (0, 0, 10, 10)
    found = [((100 + i, 0, 110 + i, 10), 0, 0.9) for i in range(100)] + [(box, 0, 0.1)]
    _, coco, _ = judge_images([make_image([*found, (box, 1, 0.1)], [(box, 0), (box, 1)])])
    assert coco.matches[0].max() == 1
    assert coco.ignored[0].nonzero()[0].tolist() == [100]
    assert (coco.mean(0), coco.mean(2)) == (0, None)
    assert coco.mean(1) == pytest.approx(1)
