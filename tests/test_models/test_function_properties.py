"""Properties of the functions behind salience, filtering, query selection and boxes."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from drawn_detectors import examples
from helpers import build, places, tiny_model_cfg
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdet_salience.models.layers.geometry import BatchGeometry, count_valid
from mmdet_salience.models.layers.token_filter import layer_budgets, level_budgets, share_of
from mmdet_salience.models.layers.tokens import best_first
from mmdet_salience.models.task_modules.query_redundancy_nms import (
    QueryRedundancyNMS,
    TopQuerySelection,
    suppress_neighbours,
)
from mmdet_salience.models.task_modules.salience_assigner import salience_targets

ANYWHERE = (-1.0, math.inf)
seeds = st.integers(0, 2**20)
percents = st.integers(1, 100)
powers_of_two = st.integers(-3, 6).map(lambda exponent: 2.0**exponent)
Box = tuple[float, float, float, float]
boxes = st.tuples(
    st.floats(0, 500, width=32), st.floats(0, 500, width=32), *[st.floats(1, 500, width=32)] * 2
).map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]))


def targets(points: Tensor, drawn: list[Box], limits: tuple[float, float] = ANYWHERE) -> Tensor:
    """Salience of points (N, 2) given the boxes of one image, (N,)."""
    ranges = torch.tensor(limits).expand(len(points), 2)
    return salience_targets(points, ranges, torch.tensor([drawn]).reshape(1, -1, 4))[0]


def random_points(seed: int, count: int = 50) -> Tensor:
    """Points in and around drawn boxes, (N, 2)."""
    source = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, generator=source) * 1000


# ---------------------------------------------------------------------- salience targets


@examples(100)
@given(boxes, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_salience_is_a_function_of_the_place_in_the_box(box: Box, u: float, v: float) -> None:
    left, top, right, bottom = box
    point = torch.tensor([[left + u * (right - left), top + v * (bottom - top)]])
    expected = 1 - math.hypot(2 * u - 1, 2 * v - 1) / 2
    # A float32 near 1000 is known to 6e-5, which is as much of the smallest box.
    assert abs(targets(point, [box]).item() - expected) < 2e-4


@examples(100)
@given(st.lists(boxes, max_size=5), seeds, powers_of_two, st.floats(1, 500), st.floats(1, 500))
def test_scaling_boxes_points_and_range_leaves_salience(
    drawn: list[Box], seed: int, scale: float, low: float, extent: float
) -> None:
    points = random_points(seed)
    scaled = [tuple(scale * side for side in box) for box in drawn]
    limits = (low, low + extent)
    found = targets(points * scale, scaled, (limits[0] * scale, limits[1] * scale))
    assert torch.equal(found, targets(points, drawn, limits))


@examples(100)
@given(st.lists(boxes, max_size=5), boxes, seeds, st.floats(0, 500))
def test_salience_is_bounded_and_another_box_never_lowers_it(
    drawn: list[Box], another: Box, seed: int, low: float
) -> None:
    points, limits = random_points(seed), (low, math.inf)
    before, after = targets(points, drawn, limits), targets(points, [*drawn, another], limits)
    assert (after >= before).all()
    corner = 1 - math.sqrt(2) / 2
    assert ((after == 0) | ((after > corner - 1e-4) & (after <= 1))).all()


# ---------------------------------------------------------------------- budgets


@examples(200)
@given(st.integers(0, 200_000), percents)
def test_shares_are_those_of_whole_numbers(count: int, percent: int) -> None:
    assert share_of(count, percent / 100) == count * percent // 100


@examples(100)
@given(
    st.lists(st.tuples(st.integers(1, 20_000), percents), min_size=1, max_size=5),
    st.lists(percents, min_size=1, max_size=6),
)
def test_budgets_fit_and_are_nested(
    levels: list[tuple[int, int]], layer_percents: list[int]
) -> None:
    num_valid = [count for count, _ in levels]
    kept = level_budgets(num_valid, [percent / 100 for _, percent in levels])
    assert all(0 <= k <= n for k, n in zip(kept, num_valid, strict=True))
    assert sum(kept) >= 1
    assert abs(sum(kept) - sum(count * percent / 100 for count, percent in levels)) <= len(levels)
    layers = layer_budgets(sum(kept), [p / 100 for p in sorted(layer_percents, reverse=True)])
    assert 1 <= min(layers) <= max(layers) <= sum(kept)
    assert all(first >= second for first, second in pairwise(layers))


@examples(200)
@given(st.integers(1, 70), st.integers(1, 2240), st.sampled_from((8, 16, 32, 64, 128)))
def test_valid_cells_are_those_of_the_resized_mask(blocks: int, size: int, stride: int) -> None:
    canvas = 32 * blocks
    assume(size <= canvas)
    cells = -(-canvas // stride)
    mask = torch.zeros(1, 1, canvas)
    mask[..., :size] = 1
    assert count_valid(cells, canvas, size) == int(F.interpolate(mask, size=cells).sum())


@examples(100)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 40), st.data())
def test_best_tokens_do_not_depend_on_padding(
    scores: list[int], count: int, data: st.DataObject
) -> None:
    """Padding between the tokens, as a larger batch-mate brings it, changes no choice."""
    count = min(count, len(scores))
    ours = torch.tensor([scores], dtype=torch.float32)
    places = sorted(data.draw(st.permutations(range(2 * len(scores))))[: len(scores)])
    padded = torch.full((1, 2 * len(scores)), -torch.inf)
    padded[0, places] = ours[0]
    values, chosen = best_first(ours, count)
    assert values[0].tolist() == sorted(scores, reverse=True)[:count]
    assert [places[i] for i in chosen[0].tolist()] == best_first(padded, count)[1][0].tolist()


# ---------------------------------------------------------------------- query selection

sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))


def random_scores(geometry: BatchGeometry, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of all tokens, and the padding mask, (B, N) each."""
    source = torch.Generator().manual_seed(seed)
    rows = []
    for levels in geometry.valid_shapes:
        masks = []
        for shape, (height, width) in zip(geometry.level_shapes, levels, strict=True):
            mask = torch.ones(shape, dtype=torch.bool)
            mask[:height, :width] = False
            masks.append(mask.flatten())
        rows.append(torch.cat(masks))
    return torch.randn(len(rows), geometry.num_tokens, generator=source), torch.stack(rows)


def neighbours(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Whether two cells of a level share a side."""
    return one[0] == other[0] and abs(one[1] - other[1]) + abs(one[2] - other[2]) == 1


def greedy(candidates: list[tuple[int, int, int]]) -> list[bool]:
    """Which cells survive, best first: those without a better survivor beside them."""
    survivors: list[tuple[int, int, int]] = []
    kept = []
    for cell in candidates:
        kept.append(not any(neighbours(cell, better) for better in survivors))
        if kept[-1]:
            survivors.append(cell)
    return kept


@examples(60)
@given(
    st.lists(sizes, min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 60),
    st.integers(1, 5),
    seeds,
)
def test_queries_are_the_greedy_choice(
    images: list[tuple[int, int]], num_levels: int, num_queries: int, factor: int, seed: int
) -> None:
    """Against a loop over cells: survivors by score, then the removed by score; none twice."""
    batch = tuple(-(-max(size[axis] for size in images) // 32) * 32 for axis in (0, 1))
    geometry = BatchGeometry.from_images(images, batch, (8, 16, 32, 64, 128)[:num_levels], 32)
    scores, padding = random_scores(geometry, seed)
    select = QueryRedundancyNMS(candidate_factor=factor)
    found = select(scores, padding, geometry, num_queries)
    for image in range(len(images)):
        valid = (~padding[image]).nonzero().flatten().tolist()
        ranked = sorted(valid, key=lambda token, b=image: -scores[b, token])
        candidates = ranked[: factor * num_queries]
        kept = greedy(places(candidates, geometry))
        expected = [t for t, k in zip(candidates, kept, strict=True) if k]
        expected += [t for t, k in zip(candidates, kept, strict=True) if not k]
        expected = expected[:num_queries]
        indices = found.indices[image].tolist()
        assert indices[: len(expected)] == expected
        missing = [False] * len(indices)
        if found.padding_mask is not None:
            missing = found.padding_mask[image].tolist()
        assert missing == [False] * len(expected) + [True] * (len(indices) - len(expected))
        top = TopQuerySelection()(scores, padding, geometry, num_queries)
        assert top.indices[image, : len(expected)].tolist() == ranked[:num_queries]


@examples(60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), seeds, st.floats(0.34, 1.0))
def test_nothing_is_redundant_above_the_overlap_of_neighbours(
    height: int, width: int, num_levels: int, seed: int, threshold: float
) -> None:
    cells = [(x, y) for y in range(height) for x in range(width)] * num_levels
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))
    levels = torch.arange(num_levels).repeat_interleave(height * width).float()
    grid = torch.tensor(cells, dtype=torch.float32)[order][None]
    assert suppress_neighbours(grid, levels[order][None], threshold).all()


# ---------------------------------------------------------------------- box refinement

HEAD = build(tiny_model_cfg()).bbox_head
logits = st.lists(st.floats(-6, 6, width=32), min_size=4, max_size=4)
fractions = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)


class Offset(nn.Module):
    """A box branch that always says the same."""

    def __init__(self, offset: list[float]) -> None:
        super().__init__()
        self.offset = torch.tensor(offset)

    def forward(self, state: Tensor) -> Tensor:
        """Offset for each query."""
        return self.offset.expand(*state.shape[:-1], 4)


def refine(reference: Tensor, offset: list[float]) -> Tensor:
    """Box (4,) that the head makes of a reference (4,)."""
    HEAD.reg_branches[0] = Offset(offset)
    return HEAD.predict_layer(0, torch.zeros(1, 1, 32), reference[None, None])[1][0, 0].detach()


@examples(100)
@given(fractions, logits, logits)
def test_box_refinement(box: list[float], offset: list[float], larger: list[float]) -> None:
    """It stays in the image, keeps the box at zero, can be undone, and rises with the offset."""
    reference = torch.tensor(box)
    refined = refine(reference, offset)
    assert ((refined > 0) & (refined < 1)).all()
    clipped = reference.clamp(HEAD.eps, 1 - HEAD.eps)
    torch.testing.assert_close(refine(reference, [0.0] * 4), clipped, atol=1e-4, rtol=0)
    inner = ((refined > HEAD.eps) & (refined < 1 - HEAD.eps)).all()
    if inner:
        back = refine(refined, [-value for value in offset])
        torch.testing.assert_close(back, clipped, atol=1e-3, rtol=0)
    both = [max(pair) for pair in zip(offset, larger, strict=True)]
    assert (refine(reference, both) >= refined).all()
