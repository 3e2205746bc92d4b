"""Each error type of TIDE in a made-up scene, and what fixing it brings."""

import numpy as np
import pytest
from evaluation_scenes import judge_images, make_image, random_images

from mmdet_salience.analysis.coco_scores import evaluate_coco
from mmdet_salience.analysis.detection_errors import ERRORS, FALSE_KINDS, KINDS, count_errors
from mmdet_salience.analysis.error_gains import GAINS, gain_of_fixes

BOX, FAR = (0, 0, 10, 10), (50, 50, 60, 60)
# IoU with BOX: 0.4, 0.6 and 0.05.
SHIFTED, SMALLER, CORNER = (0, 0, 10, 4), (0, 0, 10, 6), (0, 0, 1, 5)
HALF = 51 / 101  # COCO's AP when the first of two objects is all that is found


def kinds_and_gains(images, num_classes=3):
    table, _, errors = judge_images(images, num_classes)
    kinds = [KINDS[kind] for kind in errors.kinds]
    return kinds, gain_of_fixes(table, errors, num_classes), count_errors(table, errors, 0.0)


def assert_only(counts, **expected):
    assert counts == dict.fromkeys((*ERRORS, 'correct'), 0) | expected


def test_all_correct():
    kinds, gains, counts = kinds_and_gains([make_image([(BOX, 0, 0.9)], [(BOX, 0)])])
    assert kinds == ['correct']
    assert gains == dict.fromkeys(GAINS, 0)
    assert_only(counts, correct=1)


def test_localisation():
    image = make_image([(BOX, 0, 0.9), (SHIFTED, 0, 0.8)], [(BOX, 0), ((0, 0, 10, 2), 0)])
    kinds, gains, counts = kinds_and_gains([image])
    assert kinds == ['correct', 'correct']  # an IoU of exactly 0.5 is enough
    image = make_image([(FAR, 0, 0.9), (SHIFTED, 0, 0.8)], [(BOX, 0), (FAR, 0)])
    kinds, gains, counts = kinds_and_gains([image])
    assert kinds == ['correct', 'localisation']
    assert_only(counts, correct=1, localisation=1)  # its object is not missed
    assert gains['localisation'] == pytest.approx(1 - HALF)
    assert gains['all_missed'] == pytest.approx(1 - HALF)
    assert gains['missed'] == gains['all_false'] == 0


def test_classification():
    image = make_image([(SMALLER, 1, 0.9), (FAR, 1, 0.8)], [(BOX, 0), (FAR, 1)])
    kinds, gains, counts = kinds_and_gains([image])
    assert kinds == ['classification', 'correct']
    assert_only(counts, correct=1, classification=1)
    # AP50 was 0 for class 0 and 1/2 for class 1; class 2 has no objects.
    assert gains['classification'] == pytest.approx(1 - 0.25)
    assert gains['all_false'] == pytest.approx(0.5 - 0.25)
    assert gains['localisation'] == 0


def test_both():
    image = make_image([(SHIFTED, 1, 0.9), (FAR, 1, 0.8)], [(BOX, 0), (FAR, 1)])
    kinds, gains, counts = kinds_and_gains([image])
    assert kinds == ['both', 'correct']
    assert_only(counts, correct=1, both=1, missed=1)
    assert gains['both'] == pytest.approx(0.25)
    # Class 0 is left without objects and without detections.
    assert gains['missed'] == pytest.approx(0.5)


def test_duplicate():
    found = [(BOX, 0, 0.9), (SMALLER, 0, 0.8), (FAR, 0, 0.7)]
    kinds, gains, counts = kinds_and_gains([make_image(found, [(BOX, 0), (FAR, 0)])])
    assert kinds == ['correct', 'duplicate', 'correct']
    assert_only(counts, correct=2, duplicate=1)
    assert gains['duplicate'] == pytest.approx(50 / 3 / 101)


def test_background():
    found = [(CORNER, 0, 0.9), (BOX, 0, 0.8)]
    kinds, gains, counts = kinds_and_gains([make_image(found, [(BOX, 0)])])
    assert kinds == ['background', 'correct']
    assert_only(counts, correct=1, background=1)
    assert gains['background'] == gains['all_false'] == pytest.approx(0.5)


def test_missed():
    _, gains, counts = kinds_and_gains([make_image([(BOX, 0, 0.9)], [(BOX, 0), (FAR, 0)])])
    assert_only(counts, correct=1, missed=1)
    assert gains['missed'] == gains['all_missed'] == pytest.approx(1 - HALF)


def test_the_better_box_of_an_object_is_fixed_and_the_other_dropped():
    found = [(FAR, 0, 0.9), ((0, 0, 10, 3), 0, 0.8), (SHIFTED, 0, 0.7)]
    kinds, gains, _ = kinds_and_gains([make_image(found, [(BOX, 0), (FAR, 0)])])
    assert kinds == ['correct', 'localisation', 'localisation']
    assert gains['localisation'] == pytest.approx(1 - HALF)


def test_a_wrong_class_on_a_found_object_is_dropped_when_fixed():
    found = [(BOX, 1, 0.9), (BOX, 0, 0.8)]
    image = make_image(found, [(BOX, 0), (FAR, 1)])
    kinds, gains, counts = kinds_and_gains([image, make_image([(FAR, 1, 0.5)])])
    assert kinds == ['classification', 'correct', 'background']
    assert_only(counts, correct=1, classification=1, background=1, missed=1)
    assert gains['classification'] == 0


@pytest.mark.parametrize(
    ('own', 'other', 'kind'),
    [
        (SHIFTED, BOX, 'localisation'),  # comes before classification
        (BOX, BOX, 'classification'),  # comes before duplicate
        (CORNER, SHIFTED, 'both'),
        (CORNER, CORNER, 'background'),
    ],
)
def test_the_first_type_that_fits_counts(own, other, kind):
    found = [(own, 0, 0.9), (BOX, 0, 0.8)]
    kinds, _, _ = kinds_and_gains([make_image(found, [(own, 0), (other, 1)])])
    assert kinds == ['correct', kind]


def test_crowds_and_what_lies_in_them_are_ignored():
    crowd = (0, 0, 40, 40)
    found = [((5, 5, 15, 15), 0, 0.9), ((5, 5, 15, 15), 1, 0.8), (FAR, 0, 0.7)]
    kinds, gains, counts = kinds_and_gains([make_image(found, [(FAR, 0)], [(crowd, 0)])])
    assert kinds == ['ignored', 'background', 'correct']
    assert_only(counts, correct=1, background=1)
    assert gains == dict.fromkeys(GAINS, 0)


def test_weak_detections_are_not_counted():
    found = [(BOX, 0, 0.9), (SMALLER, 0, 0.3), (FAR, 0, 0.2)]
    table, _, errors = judge_images([make_image(found, [(BOX, 0), (FAR, 0)])])
    assert_only(count_errors(table, errors, 0.25), correct=1, duplicate=1, missed=1)
    assert_only(count_errors(table, errors, 0.95), missed=2)


def test_nothing_found():
    kinds, gains, counts = kinds_and_gains([make_image(objects=[(BOX, 0), (FAR, 1)])])
    assert kinds == []
    assert_only(counts, missed=2)
    assert gains == dict.fromkeys(GAINS, 0) | dict(missed=1, all_missed=1)


@pytest.mark.parametrize('crowds', [[], [(BOX, 0)]])
def test_nothing_to_find(crowds):
    kinds, gains, counts = kinds_and_gains([make_image([(FAR, 0, 0.9)], crowds=crowds)])
    assert kinds == ['background']
    assert_only(counts, background=1)
    assert gains == dict.fromkeys(GAINS)


@pytest.mark.parametrize('seed', range(4))
def test_every_detection_has_a_kind_and_no_fix_does_harm(seed):
    table, coco, errors = judge_images(random_images(seed=seed))
    counts = count_errors(table, errors, 0.0)
    ignored = int(coco.ignored[0].sum())
    assert sum(counts[kind] for kind in (*FALSE_KINDS, 'correct')) + ignored == len(table.scores)
    assert min(counts.values()) > 0
    gains = gain_of_fixes(table, errors, 3)
    assert min(gains.values()) >= 0
    assert max(gains.values()) <= 1 - coco.mean(iou=0.5)


def test_gain_is_measured_from_the_ap50_of_coco():
    table, coco, errors = judge_images(random_images(seed=5))
    correct = errors.is_kind('correct')
    np.testing.assert_array_equal(correct, (coco.matches[0] >= 0) & ~coco.ignored[0])
    alone = table._replace(
        images=table.images[correct],
        bboxes=table.bboxes[correct],
        labels=table.labels[correct],
        scores=table.scores[correct],
    )
    gained = evaluate_coco(alone, 3).mean(iou=0.5) - coco.mean(iou=0.5)
    assert gain_of_fixes(table, errors, 3)['all_false'] == pytest.approx(gained, abs=1e-9)
