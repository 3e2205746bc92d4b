"""Salience targets by pencil."""

import math

import pytest
import torch

from mmdet_salience.models.task_modules.salience_assigner import SalienceAssigner, salience_targets

ANY_RANGE = [-1.0, math.inf]


def targets(points: list, boxes: list, ranges: list | None = None) -> list[float]:
    """Targets of points given the boxes of one image."""
    ranges = ranges or [ANY_RANGE] * len(points)
    return salience_targets(
        torch.tensor(points), torch.tensor(ranges), torch.tensor([boxes]).reshape(1, -1, 4)
    )[0].tolist()


def test_centre_edge_and_corner_by_hand() -> None:
    # Box 10..30 x 20..60. At (15, 30): l, r = 5, 15; t, b = 10, 30; dx = dy = -0.5.
    points = [[20.0, 40.0], [15.0, 30.0], [10.001, 20.001], [9.0, 40.0]]
    found = targets(points, [10.0, 20.0, 30.0, 60.0])
    expected = [1.0, 1 - math.sqrt(0.5) / 2, 1 - math.sqrt(2) / 2, 0.0]
    assert found == pytest.approx(expected, abs=1e-3)


def test_any_size_has_the_same_profile() -> None:
    small = targets([[5.0, 6.0]], [4.0, 4.0, 8.0, 8.0])
    large = targets([[250.0, 300.0]], [200.0, 200.0, 400.0, 400.0])
    assert small == pytest.approx(large)


def test_best_of_several_boxes_wins() -> None:
    found = targets([[20.0, 40.0]], [[0.0, 0.0, 100.0, 100.0], [10.0, 20.0, 30.0, 60.0]])
    assert found == [1.0]


def test_range_gates_but_another_box_in_range_lets_the_best_through() -> None:
    small, large = [10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 100.0, 100.0]
    point = [[20.0, 40.0]]  # farthest borders: 20 px in the small box, 80 px in the large one
    assert targets(point, [small], [[64.0, 128.0]]) == [0.0]
    assert targets(point, [small, large], [[64.0, 128.0]]) == [1.0]
    assert targets(point, [small], [[20.0, 64.0]]) == [0.0]  # the lower limit is excluded
    assert targets(point, [small], [[-1.0, 20.0]]) == [1.0]  # the upper one included


def test_images_without_objects_and_padding_boxes() -> None:
    assigner = SalienceAssigner([(-1, 64)])
    boxes = [torch.zeros(0, 4), torch.tensor([[8.0, 8.0, 24.0, 24.0]])]
    found = assigner.assign(boxes, [(4, 4)], (32, 32))
    assert not found[0].any()
    # 4 x 4 cells of 8 px: centres 4, 12, 20, 28; dx, dy = +-0.5 at the four inner ones.
    inner = 1 - math.sqrt(0.5) / 2
    expected = torch.zeros(4, 4)
    expected[1:3, 1:3] = inner
    torch.testing.assert_close(found[1].view(4, 4), expected)
    assert not assigner.assign([torch.zeros(0, 4)], [(4, 4)], (32, 32)).any()


def test_levels_must_match() -> None:
    with pytest.raises(ValueError, match='level_ranges has 1 entries for 2'):
        SalienceAssigner([(-1, 64)]).assign([torch.zeros(0, 4)], [(4, 4), (2, 2)], (32, 32))
