"""Token budgets by pencil, and independence of batch-mates."""

import pytest
import torch
from helpers import places

from mmdet_salience.models.layers.geometry import BatchGeometry, count_valid
from mmdet_salience.models.layers.token_filter import (
    HierarchicalTokenFilter,
    layer_budgets,
    level_budgets,
)

STRIDES = (8, 16, 32)


def test_budget_of_a_three_level_toy() -> None:
    # 64 x 48 px: 8x6, 4x3 and 2x2 tokens (48 px are 1.5 cells of 32, rounded up).
    geometry = BatchGeometry.from_images([(64, 48)], (64, 64), STRIDES, 16)
    assert geometry.canvas_level_shapes == (((8, 6), (4, 3), (2, 2)),)
    assert geometry.num_valid_tokens == ((48, 12, 4),)
    kept = level_budgets((48, 12, 4), (0.4, 0.8, 1.0))
    assert kept == (19, 9, 4)  # 19.2, 9.6, 4
    assert layer_budgets(sum(kept), (1.0, 0.5, 0.2)) == (32, 16, 6)  # 32, 16, 6.4


def test_budgets_are_free_of_rounding_noise() -> None:
    # 0.29 * 100 is less than 29, which int() alone would cut to 28.
    assert level_budgets((100, 35), (0.29, 0.6)) == (29, 21)
    assert layer_budgets(3, (0.2,)) == (1,)


@pytest.mark.parametrize('image', range(385, 417))
def test_valid_cells_follow_nearest_resizing(image: int) -> None:
    mask = torch.ones(1, 1, 416, 416)
    mask[..., :image, :] = 0
    for cells in (52, 26, 13, 7):
        resized = torch.nn.functional.interpolate(mask, size=(cells, cells))
        assert count_valid(cells, 416, image) == int((resized[0, 0, :, 0] == 0).sum())


def scores_of(geometry: BatchGeometry, image: int, seed: int) -> list[torch.Tensor]:
    """Random salience within one image's canvas, zero elsewhere."""
    source = torch.Generator().manual_seed(seed)
    maps = []
    for level, (height, width) in enumerate(geometry.level_shapes):
        rows, columns = geometry.canvas_level_shapes[image][level]
        score = torch.zeros(1, 1, height, width)
        score[..., :rows, :columns] = torch.rand(1, 1, rows, columns, generator=source)
        maps.append(score)
    return maps


def padding_mask(geometry: BatchGeometry) -> torch.Tensor:
    """Padding mask of all tokens."""
    rows = []
    for levels in geometry.valid_shapes:
        masks = []
        for (height, width), (valid_h, valid_w) in zip(geometry.level_shapes, levels, strict=True):
            mask = torch.ones(height, width, dtype=torch.bool)
            mask[:valid_h, :valid_w] = False
            masks.append(mask.flatten())
        rows.append(torch.cat(masks))
    return torch.stack(rows)


def test_an_image_keeps_its_tokens_in_a_larger_batch() -> None:
    token_filter = HierarchicalTokenFilter((0.4, 0.8, 1.0), (1.0, 0.5))
    small, large = (70, 90), (160, 128)
    alone = BatchGeometry.from_images([small], (96, 96), STRIDES, 32)
    batch = BatchGeometry.from_images([small, large], (160, 128), STRIDES, 32)
    single = token_filter(scores_of(alone, 0, 0), padding_mask(alone), alone)
    maps = [
        torch.cat(pair) for pair in zip(scores_of(batch, 0, 0), scores_of(batch, 1, 1), strict=True)
    ]
    both = token_filter(maps, padding_mask(batch), batch)
    assert not both.is_even
    for layer in range(2):
        count = both.layer_counts[layer][0]
        assert count == single.layer_counts[layer][0]
        ours = both.layer_indices(layer, batch.num_tokens)[0]
        assert (ours[count:] == batch.num_tokens).all()
        expected = places(single.layer_indices(layer, 0)[0].tolist(), alone)
        assert places(ours[:count].tolist(), batch) == expected


def test_padding_is_never_selected_and_sets_are_nested() -> None:
    geometry = BatchGeometry.from_images([(40, 60)], (64, 64), STRIDES, 32)
    mask = padding_mask(geometry)
    token_filter = HierarchicalTokenFilter((1.0, 1.0, 1.0), (1.0, 0.6, 0.2))
    maps = [-torch.rand(1, 1, *shape) for shape in geometry.level_shapes]
    selection = token_filter(maps, mask, geometry)
    assert not mask[0, selection.indices[0]].any()
    sets = [set(selection.layer_indices(layer, 0)[0].tolist()) for layer in range(3)]
    assert sets[2] < sets[1] < sets[0]
    assert len(sets[0]) == int((~mask).sum())


@pytest.mark.parametrize('bad', [dict(level_ratios=(0.0,)), dict(layer_ratios=(0.5, 1.0))])
def test_bad_ratios(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        HierarchicalTokenFilter(**bad)


def test_shared_budgets_are_the_largest_of_the_batch() -> None:
    """As the release trains: 8x8, 4x4 and 2x2 tokens, of which the second image has a quarter."""
    geometry = BatchGeometry.from_images([(64, 64), (32, 32)], (64, 64), STRIDES, 32, shared=True)
    assert geometry.canvas_shapes == ((64, 64), (64, 64))
    assert geometry.num_valid_tokens == ((64, 16, 4), (16, 4, 1))
    mask = padding_mask(geometry)
    source = torch.Generator().manual_seed(0)
    # Scores fall from level to level, so that a level's lowest lies above the next level.
    salience = [
        torch.rand(2, 1, *shape, generator=source) - 2 * level
        for level, shape in enumerate(geometry.level_shapes)
    ]
    token_filter = HierarchicalTokenFilter((0.5, 0.5, 1.0), (1.0, 0.5))
    selection = token_filter(salience, mask, geometry)
    # Budgets 32 + 8 + 4 = 44 and 8 + 2 + 1 = 11; the layers share out 44.
    assert selection.layer_counts == ((44, 11), (22, 11))
    second = selection.layer_indices(0, geometry.num_tokens)[1].tolist()
    assert second[11:] == [geometry.num_tokens] * 33
    assert all(token < 64 and not mask[1, token] for token in second[:11])
    # What the release does with a padded token: it has the level's lowest score of the batch.
    lowest = salience[0].min()
    assert (selection.scores[1, 16:32] == lowest).all()


def test_batches_of_one_size_have_the_same_budgets_either_way() -> None:
    shapes = [(64, 48), (64, 48)]
    source = torch.Generator().manual_seed(1)
    selections = []
    for shared in (False, True):
        geometry = BatchGeometry.from_images(shapes, (64, 64), STRIDES, 32, shared=shared)
        if not selections:
            salience = [torch.rand(2, 1, *s, generator=source) for s in geometry.level_shapes]
        token_filter = HierarchicalTokenFilter((0.4, 0.8, 1.0), (1.0, 0.5))
        selections.append(token_filter(salience, padding_mask(geometry), geometry))
    independent, shared = selections
    assert torch.equal(independent.indices, shared.indices)
    assert independent.layer_counts == shared.layer_counts
