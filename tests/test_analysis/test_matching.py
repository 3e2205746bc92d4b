"""Matching of detections with annotated objects, by hand and against a plain loop."""

import numpy as np
import pytest

from mmdet_salience.analysis.matching import (
    MatchCounts,
    count_matches,
    match_detections,
    pairwise_iou,
)

EMPTY = np.zeros((0, 4))


def boxes(*values):
    return np.array(values, dtype=float).reshape(-1, 4)


def test_iou_of_hand_worked_pairs():
    first = boxes((0, 0, 10, 10), (0, 0, 10, 20), (3, 3, 3, 3))
    second = boxes((0, 0, 10, 10), (5, 0, 15, 10), (20, 20, 30, 30), (3, 3, 3, 3))
    expected = [[1, 1 / 3, 0, 0], [0.5, 50 / 250, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(pairwise_iou(first, second), expected)


def test_the_better_score_takes_the_object():
    found = boxes((0, 0, 10, 9), (0, 0, 10, 10))
    scores = np.array([0.9, 0.8])
    labels = np.zeros(2, dtype=int)
    objects = boxes((0, 0, 10, 10))
    assert match_detections(found, labels, scores, objects, labels[:1]).tolist() == [0, -1]
    assert match_detections(found, labels, scores[::-1], objects, labels[:1]).tolist() == [-1, 0]


def test_a_taken_object_leaves_the_second_best():
    found = boxes((0, 0, 10, 10), (0, 0, 10, 10))
    objects = boxes((0, 0, 10, 8), (0, 0, 10, 10), (0, 0, 10, 6))
    labels = np.zeros(3, dtype=int)
    matches = match_detections(found, labels[:2], np.array([0.5, 0.6]), objects, labels)
    assert matches.tolist() == [0, 1]


def test_classes_must_agree():
    found = boxes((0, 0, 10, 10), (0, 0, 10, 10))
    objects = boxes((0, 0, 10, 10))
    matches = match_detections(
        found, np.array([0, 1]), np.array([0.9, 0.1]), objects, np.array([1])
    )
    assert matches.tolist() == [-1, 0]


def test_an_iou_at_the_threshold_counts():
    found, objects = boxes((0, 0, 10, 5)), boxes((0, 0, 10, 10))
    label = np.zeros(1, dtype=int)
    score = np.ones(1)
    assert match_detections(found, label, score, objects, label, 0.5).tolist() == [0]
    assert match_detections(found, label, score, objects, label, 0.51).tolist() == [-1]


def test_equal_scores_choose_in_the_given_order():
    found = boxes((0, 0, 10, 10), (0, 0, 10, 10))
    label = np.zeros(2, dtype=int)
    matches = match_detections(found, label, np.ones(2), found[:1], label[:1])
    assert matches.tolist() == [0, -1]


@pytest.mark.parametrize(('num', 'num_gt'), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(num, num_gt):
    found, objects = np.ones((num, 4)), np.ones((num_gt, 4))
    matches = match_detections(found, np.zeros(num), np.ones(num), objects, np.zeros(num_gt))
    assert matches.dtype == np.int64
    assert matches.tolist() == [-1] * num


def random_scene(seed, num=60, num_gt=25):
    """Boxes that crowd, so that they compete for objects."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 20, (num + num_gt, 2))
    crowd = np.hstack([corners, corners + rng.uniform(6, 12, corners.shape)])
    labels = rng.integers(0, 2, len(crowd))
    scores = rng.choice([0.2, 0.4, 0.6, 0.8], num)
    return crowd[:num], labels[:num], scores, crowd[num:], labels[num:]


def match_one_by_one(bboxes, labels, scores, gt_bboxes, gt_labels, iou_thr):
    """The same with loops alone."""
    matches = [-1] * len(bboxes)
    for i in sorted(range(len(bboxes)), key=lambda i: -scores[i]):
        best = iou_thr
        for j, truth in enumerate(gt_bboxes):
            x1, y1 = max(bboxes[i][0], truth[0]), max(bboxes[i][1], truth[1])
            x2, y2 = min(bboxes[i][2], truth[2]), min(bboxes[i][3], truth[3])
            shared = max(0, x2 - x1) * max(0, y2 - y1)
            area, other = ((box[2] - box[0]) * (box[3] - box[1]) for box in (bboxes[i], truth))
            iou = shared / (area + other - shared)
            if labels[i] == gt_labels[j] and j not in matches and iou >= best:
                best, matches[i] = iou, -1
                choice = j
        if best > iou_thr:
            matches[i] = choice
    return matches


@pytest.mark.parametrize('seed', range(5))
def test_equals_a_plain_loop(seed):
    scene = random_scene(seed)
    matches = match_detections(*scene, iou_thr=0.3)
    assert matches.tolist() == match_one_by_one(*scene, iou_thr=0.3)
    taken = matches[matches >= 0]
    assert 5 < len(taken) == len(set(taken))


def test_dropping_weak_detections_changes_nothing_for_the_others():
    bboxes, labels, scores, gt_bboxes, gt_labels = random_scene(7)
    strong = scores >= 0.5
    every = match_detections(bboxes, labels, scores, gt_bboxes, gt_labels)
    some = match_detections(bboxes[strong], labels[strong], scores[strong], gt_bboxes, gt_labels)
    assert some.tolist() == every[strong].tolist()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match='iou_thr must lie in'):
        match_detections(EMPTY, [], [], EMPTY, [], iou_thr=0)
    with pytest.raises(ValueError, match='1 boxes, 2 labels and 1 scores'):
        match_detections(np.ones((1, 4)), [0, 0], [1.0], EMPTY, [])


def test_counts_at_a_threshold():
    matches, scores = np.array([0, -1, 2, -1]), np.array([0.9, 0.5, 0.4, 0.3])
    assert count_matches(matches, scores, 4, 0.4) == MatchCounts(4, found=2, missed=2, false=1)
    assert count_matches(matches, scores, 4, 0.95) == MatchCounts(4, found=0, missed=4, false=0)
    assert count_matches(matches[:0], scores[:0], 0, 0.5) == MatchCounts(0, 0, 0, 0)
