"""The figure of an inspected image, and what the page's data says of it."""

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from inspections import LEVELS, make_inspection, objects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mmdet_salience.reports.salience_report import (
    describe_detections,
    image_record,
    is_own_page,
    pack_layer,
    pack_maps,
    write_salience_report,
)
from mmdet_salience.visualization import colors
from mmdet_salience.visualization.inspection_axes import MAX_THICK, class_name, strides
from mmdet_salience.visualization.inspection_figure import describe_outcome, draw_inspection
from mmdet_salience.visualization.inspection_panels import draw_cells, draw_queries, point_areas
from mmdet_salience.visualization.outcome_panel import draw_outcome, match_inspection

CLASSES = ('scratch', 'pit')
TRUTH = objects([(8, 8, 40, 42), (50, 40, 80, 58)], [0, 1])


@pytest.fixture
def axes():
    figure = Figure(figsize=(4, 3))
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def edges(axes):
    """Colours of the boxes that are drawn, without their dark rims."""
    found = [to_hex(patch.get_edgecolor()).upper() for patch in axes.patches]
    return sorted(color for color in found if color != colors.BLACK)


def names(axes):
    return sorted(text.get_text() for text in axes.texts)


def many_objects(number=300):
    corners = np.random.default_rng(0).uniform(0, 50, (number, 2))
    return objects(np.hstack([corners, corners + 5]), [0] * number, [0.5] * number)


def test_strides_and_class_names():
    assert strides(make_inspection()) == [8, 16, 32, 64]
    assert class_name(CLASSES, 1) == 'pit'
    assert class_name(CLASSES, 7) == 'class 7'


def test_boxes_have_the_colours_of_their_outcome(axes):
    inspection = make_inspection(truth=TRUTH)
    matched = match_inspection(inspection, 0.3)
    assert tuple(matched.counts) == (2, 1, 1, 1)
    draw_outcome(axes, inspection, matched, CLASSES, 200)
    expected = [colors.FOUND, colors.FALSE, colors.MISSED, colors.OBJECT]
    assert edges(axes) == sorted(expected)
    assert names(axes) == ['missed pit', 'pit 0.40', 'scratch 0.90']
    assert 'IoU ≥ 0.5' in describe_outcome(matched, 0.3)


def test_the_threshold_leaves_out_detections(axes):
    inspection = make_inspection(truth=TRUTH)
    matched = match_inspection(inspection, 0.95)
    draw_outcome(axes, inspection, matched, CLASSES, 200)
    assert edges(axes) == [colors.MISSED] * 2
    assert describe_outcome(matched, 0.95).startswith(
        '0 detections, score ≥ 0.95\n2 objects: 0 found'
    )


def test_without_ground_truth_no_detection_is_false(axes):
    inspection = make_inspection()
    matched = match_inspection(inspection, 0.3)
    draw_outcome(axes, inspection, matched, CLASSES, 200)
    assert edges(axes) == [colors.FOUND] * 2
    assert describe_outcome(matched, 0.3).endswith('objects unknown')


def test_names_lie_beside_each_other(axes):
    same = [(10, 20, 40, 50)] * 3
    inspection = make_inspection(objects(same, [0, 0, 1], [0.9, 0.8, 0.7]))
    draw_outcome(axes, inspection, match_inspection(inspection, 0.3), CLASSES, 288)
    heights = sorted(text.get_position()[1] for text in axes.texts)
    line = 90 / 288 * 7 * 1.7
    np.testing.assert_allclose(np.diff(heights), line)
    assert heights[-1] == 20


def test_many_boxes_have_no_names(axes):
    inspection = make_inspection(many_objects())
    draw_outcome(axes, inspection, match_inspection(inspection, 0.3), CLASSES, 200)
    assert len(edges(axes)) == 300 > MAX_THICK
    assert not axes.texts


def test_queries_are_points_by_level_and_state(axes):
    inspection = make_inspection()
    best, chosen = inspection.candidates, inspection.queries
    removed = ~np.isin(best.tokens, chosen.tokens)
    draw_queries(axes, inspection, best, removed, colors.REMOVED)
    (drawn,) = axes.collections
    # Tokens 121 (level 2), 97 (1), 0 and 1 (0): coarse ones first; token 1 is removed.
    np.testing.assert_allclose(drawn.get_offsets(), [(48, 16), (24, 8), (4, 4), (12, 4)])
    faces = [to_hex(color).upper() for color in drawn.get_facecolors()]
    assert faces == [colors.KEPT] * 3 + [colors.REMOVED]
    sizes = drawn.get_sizes()
    assert sizes[0] > sizes[1] > sizes[2] == sizes[3]
    assert point_areas([1], 900) < point_areas([1], 100)


def test_cells_count_their_layers(axes):
    inspection = make_inspection(layers=((0, 5, 96), (0,), (0,)))
    draw_cells(axes, inspection, 0)
    counts = axes.images[-1].get_array()
    assert counts[0, 0] == 3 and counts[0, 5] == 1
    assert counts.mask.sum() == 96 - 2
    assert axes.images[-1].get_extent() == [0, 96, 64, 0]
    assert axes.get_xlim() == (0, 90)  # the padding lies outside


@pytest.mark.parametrize('scale', [1, 24])
def test_figure_of_any_size(tmp_path: Path, scale: int):
    truth = objects(np.array(TRUTH.bboxes) * scale, TRUTH.labels)
    path = tmp_path / 'new' / 'a.png'
    assert draw_inspection(make_inspection(truth=truth, scale=scale), path, CLASSES) == path
    picture = cv2.imread(str(path))
    assert picture.shape[1] == 14 * 110 and 1000 < picture.shape[0] < 2000
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize('found', [objects(), many_objects()])
def test_figure_without_ground_truth_is_lower(tmp_path: Path, found):
    heights = []
    for truth in (None, objects()):
        inspection = make_inspection(found, truth, path='')
        path = draw_inspection(inspection, tmp_path / 'a.png', CLASSES)
        heights.append(cv2.imread(str(path)).shape[0])
    assert heights[0] + 200 < heights[1]


def test_packed_maps_and_layers():
    inspection = make_inspection(layers=((0, 9, 96), (0,)))
    values = np.frombuffer(base64.b64decode(pack_maps(inspection, inspection.salience)), np.uint8)
    sizes = [rows * columns for rows, columns in LEVELS]
    assert values.tolist() == np.repeat([64, 128, 191, 255], sizes).tolist()
    packed = base64.b64decode(pack_layer(inspection, 0))
    assert (packed[0], packed[1], packed[12]) == (0b10000000, 0b01000000, 0b10000000)
    assert len(packed) == -(-sum(sizes) // 8)


def test_a_cell_is_packed_with_the_value_at_its_centre():
    inspection = make_inspection(scale=2)
    ramp = np.broadcast_to(np.arange(180) / 255, (120, 180))
    text = pack_maps(inspection, [ramp] * 4)
    first_row = np.frombuffer(base64.b64decode(text), np.uint8)[:12]
    assert first_row.tolist() == [*range(8, 168, 16), 168, 179]  # the last one is padding


def test_detections_of_the_page():
    inspection = make_inspection(
        objects([(8, 8, 40, 40.04), (0, 0, 9, 9), (1, 1, 2, 2)], [0, 1, 0], [0.29999, 0.06, 0.01]),
        TRUTH,
    )
    rows = describe_detections(inspection, CLASSES, 0.05)
    first = dict(box=[8, 8, 40, 40], name='scratch', score=0.2999, match=0)  # rounded down
    assert rows[0] == first
    assert [row['match'] for row in rows] == [0, -1]


def test_a_diverged_model_does_not_break_the_page():
    broken = make_inspection(objects([(np.nan, 0, np.inf, 5)], [0], [np.nan]))
    salience = tuple(np.full_like(level, np.nan) for level in broken.salience)
    record = image_record(broken._replace(salience=salience), CLASSES, least_score=0.0)
    json.dumps(record, allow_nan=False)


def test_page_size_is_bounded(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (1800, 2700, 3), dtype=np.uint8)
    inspection = make_inspection(scale=30)._replace(image=noise)
    assert len(image_record(inspection, CLASSES, max_side=256)['picture']) < 60_000
    page = write_salience_report(tmp_path / 'a.html', [image_record(inspection, CLASSES, 256)])
    assert page.stat().st_size < 150_000


def test_own_pages_are_known(tmp_path: Path):
    own = write_salience_report(tmp_path / 'a.html', [image_record(make_inspection(), CLASSES)])
    assert is_own_page(own)
    other = tmp_path / 'b.html'
    other.write_text('<p>my page</p>')
    assert not is_own_page(other)
    with pytest.raises(ValueError, match='at least one image'):
        write_salience_report(own, [])
