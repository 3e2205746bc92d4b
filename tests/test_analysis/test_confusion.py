"""Confusion of classes by hand."""

import pytest
from evaluation_scenes import judge_images, make_image, random_images

from mmdet_salience.analysis.confusion import confusion_matrix, find_confusable

BOX, FAR, SMALLER = (0, 0, 10, 10), (50, 50, 60, 60), (0, 0, 10, 6)


def matrix_of(images, score_thr=0.0, num_classes=2):
    table, _, errors = judge_images(images, num_classes)
    pairs = find_confusable(table, errors)
    return confusion_matrix(table, errors, pairs, num_classes, score_thr)


def test_found_confused_missed_and_free():
    found = [(BOX, 0, 0.9), (FAR, 0, 0.8), ((80, 0, 90, 10), 1, 0.7)]
    objects = [(BOX, 0), (FAR, 1), ((20, 20, 30, 30), 1)]
    matrix = matrix_of([make_image(found, objects), make_image([(BOX, 1, 0.6)])])
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 2, 0]]


def test_the_right_class_comes_before_a_higher_score():
    found = [(BOX, 1, 0.9), (SMALLER, 0, 0.2)]
    image = make_image(found, [(BOX, 0)])
    assert matrix_of([image]).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    # Without the weak detection, the object is taken for the other class.
    assert matrix_of([image], 0.5).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_an_object_is_confused_once():
    found = [(SMALLER, 1, 0.9), (BOX, 2, 0.8)]
    matrix = matrix_of([make_image(found, [(BOX, 0)])], num_classes=3)
    assert matrix[0].tolist() == [0, 1, 0, 0]
    assert matrix[3].tolist() == [0, 0, 1, 0]


def test_crowds_count_nowhere():
    found = [((2, 2, 6, 6), 0, 0.9), ((2, 2, 6, 6), 1, 0.8)]
    matrix = matrix_of([make_image(found, crowds=[(BOX, 0)])])
    assert matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize('score_thr', [0.0, 0.5, 0.9, 1.1])
def test_rows_hold_all_objects_and_columns_all_detections(score_thr):
    table, coco, errors = judge_images(random_images())
    matrix = confusion_matrix(table, errors, find_confusable(table, errors), 3, score_thr)
    kept = (table.scores >= score_thr) & ~coco.ignored[0]
    for label in range(3):
        assert matrix[label].sum() == ((table.gt_labels == label) & ~table.gt_crowd).sum()
        assert matrix[:, label].sum() == ((table.labels == label) & kept).sum()
    assert matrix[3, 3] == 0
