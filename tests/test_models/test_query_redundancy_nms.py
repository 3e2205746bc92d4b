"""Redundancy removal on grids small enough to check by eye."""

from unittest import mock

import torch
from mmcv.ops import nms

from mmdet_salience.models.layers.geometry import BatchGeometry
from mmdet_salience.models.task_modules import query_redundancy_nms
from mmdet_salience.models.task_modules.query_redundancy_nms import (
    QueryRedundancyNMS,
    suppress_neighbours,
)


def geometry(*sizes: tuple[int, int], strides: tuple[int, ...] = (32,)) -> BatchGeometry:
    """Images of whole cells of 32 px on the finest level."""
    shapes = [(32 * rows, 32 * columns) for rows, columns in sizes]
    batch = tuple(max(shape[axis] for shape in shapes) for axis in (0, 1))
    return BatchGeometry.from_images(shapes, batch, strides, 32)


def select(scores: torch.Tensor, sizes: BatchGeometry, num_queries: int, **kwargs):
    """Run the selection; tokens with score -inf are padding."""
    return QueryRedundancyNMS(**kwargs)(scores, scores.isinf(), sizes, num_queries)


def test_four_neighbours_on_a_3x3_grid() -> None:
    # The best token is the centre: its 4 neighbours go, the corners (overlap 1/7) stay.
    scores = torch.tensor([[5.0, 8, 4, 7, 9, 6, 2, 3, 1]])
    result = select(scores, geometry((3, 3)), 5, candidate_factor=2)
    assert result.candidates[0].tolist() == [4, 1, 3, 5, 0, 2, 7, 6, 8]
    assert result.indices[0].tolist() == [4, 0, 2, 6, 8]
    assert result.padding_mask is None


def test_a_removed_token_does_not_suppress() -> None:
    # A row of three, falling scores: the second falls to the first, so the third survives.
    assert select(torch.tensor([[3.0, 2, 1]]), geometry((1, 3)), 2).indices[0].tolist() == [0, 2]


def test_thresholds() -> None:
    cells = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]]])
    groups = torch.zeros(1, 3)
    assert suppress_neighbours(cells, groups, 0.34)[0].tolist() == [True, True, True]
    assert suppress_neighbours(cells, groups, 0.3)[0].tolist() == [True, True, False]
    assert suppress_neighbours(cells, groups, 0.1)[0].tolist() == [True, False, False]


def test_levels_and_images_do_not_suppress_each_other() -> None:
    cells = torch.zeros(2, 2, 2)
    groups = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert suppress_neighbours(cells, groups, 0.3).all()


def test_levels_are_moved_far_enough_apart_for_any_threshold() -> None:
    # The last cell of a level and the first of the next, which any overlap would remove.
    cells = torch.tensor([[[5.0, 5.0], [0.0, 0.0], [0.0, 0.0]]])
    groups = torch.tensor([[0.0, 1.0, 2.0]])
    for radius in (1.0, 2.5):
        assert suppress_neighbours(cells, groups, 1e-4, radius).all()


def test_every_image_has_a_call_of_its_own() -> None:
    """The operator is quadratic in the boxes of a call; together they would cost B times more."""
    source = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 20, (4, 90, 2), generator=source).float()
    groups = torch.randint(0, 3, (4, 90), generator=source)
    with mock.patch.object(query_redundancy_nms, 'nms', wraps=nms) as calls:
        kept = suppress_neighbours(cells, groups, 0.3)
    assert [len(call.args[0]) for call in calls.call_args_list] == [90] * 4
    for image in range(4):
        alone = suppress_neighbours(cells[image, None], groups[image, None], 0.3)
        assert torch.equal(kept[image], alone[0])


def test_the_best_of_the_removed_fill_up() -> None:
    # Two survivors of a 2x2 grid; the third and fourth query are removed ones, best first.
    result = select(torch.tensor([[4.0, 3, 2, 1]]), geometry((2, 2)), 4, candidate_factor=1)
    assert result.indices[0].tolist() == [0, 3, 1, 2]


def test_batch_mates_do_not_matter() -> None:
    source = torch.Generator().manual_seed(0)
    large = torch.rand(1, 30, generator=source)
    small = torch.full((1, 30), -torch.inf)
    alone = torch.rand(1, 6, generator=source)
    small.view(5, 6)[:2, :3] = alone.view(2, 3)  # 2 x 3 cells in a batch of 5 x 6
    sizes = geometry((5, 6), (2, 3))
    both = select(torch.cat((large, small)), sizes, 8)
    only_large = select(large, geometry((5, 6)), 8)
    only_small = select(alone, geometry((2, 3)), 8)
    assert both.indices[0].tolist() == only_large.indices[0].tolist()
    assert only_small.indices.shape == (1, 6)  # an image cannot have more queries than tokens
    rows, columns = both.indices[1] // 6, both.indices[1] % 6
    assert (rows * 3 + columns)[:6].tolist() == only_small.indices[0].tolist()
    assert both.padding_mask.tolist() == [[False] * 8, [False] * 6 + [True] * 2]
