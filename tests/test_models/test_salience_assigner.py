"""Salience targets by pencil."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


@pytest.mark.parametrize('count', [0, 1, 3, 4, 11])
def test_chunks_of_boxes_change_nothing(count: int) -> None:
    source = torch.Generator().manual_seed(count)
    corners = torch.rand(2, count, 4, generator=source) * 100
    boxes = torch.cat((corners[..., :2], corners[..., :2] + corners[..., 2:]), dim=-1)
    points = torch.rand(50, 2, generator=source) * 200
    ranges = torch.tensor([[-1.0, 64.0], [64.0, 128.0]]).repeat(25, 1)
    whole = salience_targets(points, ranges, boxes, chunk_size=100)
    for chunk_size in (1, 3, 4):
        assert torch.equal(salience_targets(points, ranges, boxes, chunk_size), whole)


def test_chunks_bound_the_memory() -> None:
    """No tensor holds more than a chunk of boxes for each token."""
    source = torch.Generator().manual_seed(0)
    boxes = [torch.rand(60, 4, generator=source) * 64 for _ in range(2)]
    sizes = []

    class Sizes(TorchDispatchMode):
        """Keeps the elements of everything that is computed."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            sizes.extend(r.numel() for r in tree_leaves(result) if isinstance(r, torch.Tensor))
            return result

    with Sizes():
        SalienceAssigner([(-1, 64)], chunk_size=5).assign(boxes, [(16, 16)], (64, 64))
    assert max(sizes) == 2 * 256 * 5  # images, tokens, boxes


def test_levels_must_match() -> None:
    with pytest.raises(ValueError, match='level_ranges has 1 entries for 2'):
        SalienceAssigner([(-1, 64)]).assign([torch.zeros(0, 4)], [(4, 4), (2, 2)], (32, 32))
