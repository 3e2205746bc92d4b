"""Figures of an evaluation by hand, and unusual data."""

import json

import numpy as np
import pytest
from evaluation_scenes import make_image, random_images

from mmdet_salience.analysis.detection_table import join_images, keep_best
from mmdet_salience.analysis.evaluation_summary import (
    best_threshold,
    choose_threshold,
    judge,
    summarize_test,
)
from mmdet_salience.analysis.image_faults import worst_images

# 400, 2500 and 10000 square pixels: small, medium and large.
SMALL, MEDIUM, LARGE = (0, 0, 20, 20), (30, 0, 80, 50), (100, 0, 200, 100)
FREE = (300, 300, 310, 310)


def three_sizes():
    """The large object is found, the medium one with a low score, the small one not."""
    found = [(LARGE, 0, 0.9), (MEDIUM, 0, 0.25), (FREE, 1, 0.5)]
    return judge([make_image(found, [(SMALL, 0), (MEDIUM, 0), (LARGE, 0)])], ['a', 'b'])


def test_objects_found_by_size():
    summary = summarize_test(three_sizes(), 0.3)
    place = summary['thresholds'].index(0.3)
    sizes = {s['size']: (s['objects'], s['found'][0], s['found'][place]) for s in summary['sizes']}
    assert sizes == dict(small=(1, 0, 0), medium=(1, 1, 0), large=(1, 1, 1), all=(3, 2, 1))


def test_figures_of_classes():
    first, second = summarize_test(three_sizes(), 0.3)['classes']
    assert (first['name'], first['objects']) == ('a', 3)
    assert first['objects_by_size'] == dict(small=1, medium=1, large=1)
    assert first['ap'] == pytest.approx(67 / 101)
    assert first['best_f1'] == pytest.approx(dict(score=0.25, f1=0.8, precision=1, recall=2 / 3))
    assert (second['ap'], second['best_f1'], second['objects']) == (None, None, 0)


def test_threshold_of_best_f1_is_rounded_down():
    image = make_image([(SMALL, 0, 0.12999)], [(SMALL, 0)])
    test = judge([image], ['a'])
    assert best_threshold(test) == choose_threshold(test) == 0.129
    tiny = judge([make_image([(SMALL, 0, 2e-5)], [(SMALL, 0)])], ['a'])
    assert best_threshold(tiny) == pytest.approx(2e-5)


def test_thresholds_hold_start_and_best():
    summary = summarize_test(three_sizes(), 0.333)
    assert {0, 0.05, 0.25, 0.333, 0.95} < set(summary['thresholds'])
    assert summary['thresholds'] == sorted(summary['thresholds'])
    counts = summary['thresholds'], *(error['counts'] for error in summary['errors'])
    assert len({len(values) for values in counts}) == 1


def test_worst_images_come_first():
    good = make_image([(SMALL, 0, 0.9)], [(SMALL, 0)])
    missed = make_image([(SMALL, 0, 0.2)], [(SMALL, 0), (LARGE, 1)])
    sure = make_image([(FREE, 0, 0.9), (SMALL, 0, 0.9)], [(SMALL, 0)])
    unsure = make_image([(FREE, 0, 0.4)])
    test = judge([good, unsure, missed, sure], 'ab')
    worst = worst_images(test, 0.3, 10)
    assert [faults.image for faults in worst] == [2, 3, 1]
    assert worst[0].missed.tolist() == [1, 2]  # rows of the table; image 0 has one object
    assert (worst[0].objects, worst[0].kinds) == (2, {})
    assert worst[1].kinds == dict(background=1)
    assert worst[1].false.tolist() == [3]
    assert [faults.image for faults in worst_images(test, 0.3, 1)] == [2]


@pytest.mark.parametrize(
    'images',
    [
        [make_image()],
        [make_image([(SMALL, 0, 0.5)]), make_image()],
        [make_image(objects=[(SMALL, 1)]), make_image()],
        [make_image(crowds=[(LARGE, 0)])],
    ],
    ids=['empty', 'no objects', 'no detections', 'crowd only'],
)
def test_unusual_data_give_valid_json(images):
    test = judge(images, ['a', 'b'])
    assert choose_threshold(test) == 0.3
    summary = summarize_test(test, 0.3)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    has_objects = len(test.table.gt_labels) > test.table.gt_crowd.sum()
    assert summary['overall']['ap'] == (0 if has_objects else None)


def test_many_classes_give_valid_json():
    summary = summarize_test(judge(random_images(num_classes=80), list(map(str, range(80)))), 0.3)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert len(summary['classes']) == 80


def test_wrong_labels_and_no_images_are_named():
    with pytest.raises(ValueError, match=r'labels 1\.\.1 need as many classes, got 1'):
        judge([make_image([(SMALL, 1, 0.5)])], ['a'])
    with pytest.raises(ValueError, match='at least one image'):
        join_images([])


def test_best_detections_of_each_class_are_kept():
    scores = np.array([0.1, 0.9, np.nan, 0.5, 0.7, np.inf])
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert keep_best(labels, scores, 2).tolist() == [1, 3, 4]
    assert keep_best(labels[:0], scores[:0], 2).tolist() == []
