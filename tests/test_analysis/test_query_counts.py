"""Queries of objects, counted by pencil."""

import math

import numpy as np
import pytest
import torch
from helpers import ROOT, build, make_batch, tiny_model_cfg
from mmengine.config import Config, ConfigDict

from mmdet_salience.analysis.query_stats import (
    count_queries,
    find_owners,
    find_redundant,
    join_counts,
    locate_tokens,
    summarize,
)

SHAPES = ((4, 6), (2, 3))  # strides 8 and 16 of a batch of 32 x 48 px


def small_dino() -> ConfigDict:
    """The small DINO with three classes."""
    folder = ROOT / 'configs' / 'dino'
    cfg = Config.fromfile(folder / 'dino-4scale_r18_1xb8-750i_synthetic.py').model
    cfg.bbox_head.num_classes = 3
    return cfg


def test_tokens_lie_at_the_centres_of_their_cells() -> None:
    places = locate_tokens(np.array([0, 7, 23, 24, 29]), SHAPES, (32, 48))
    assert places.cells.tolist() == [[0, 0, 0], [0, 1, 1], [0, 5, 3], [1, 0, 0], [1, 2, 1]]
    assert places.points.tolist() == [[4, 4], [12, 12], [44, 28], [8, 8], [40, 24]]


def test_the_smallest_object_owns_a_query() -> None:
    boxes = np.array([[0.0, 0, 48, 32], [8, 8, 16, 16]])
    points = np.array([[12.0, 12], [4, 4], [47, 31], [60, 5]])
    assert find_owners(points, boxes).tolist() == [1, 0, 0, -1]
    assert find_owners(points, np.zeros((0, 4))).tolist() == [-1] * 4


def test_redundant_is_next_to_a_better_query_of_the_object() -> None:
    cells = np.array([[0, 1, 1], [0, 2, 1], [0, 2, 2], [1, 1, 1], [0, 3, 2], [0, 4, 2]])
    #                 best       beside     beside #2  other level  beside #3  beside #5
    assert find_redundant(cells, np.zeros(6, int)).tolist() == [
        False,
        True,
        True,
        False,
        True,
        True,
    ]
    owners = np.array([0, 1, 1, 0, -1, -1])
    assert find_redundant(cells, owners).tolist() == [False, False, True, False, False, False]


def test_summary_by_size() -> None:
    places = locate_tokens(np.array([7, 8, 24, 29]), SHAPES, (32, 48))
    boxes = np.array([[8.0, 8, 24, 16], [32, 0, 40, 8]])
    first = count_queries(places, boxes, np.array([128.0, 64]))
    assert first.counts.tolist() == [2, 0]  # (12, 12) and (20, 12); (8, 8) is on the border
    assert first.redundant.tolist() == [1, 0]
    second = count_queries(places, np.array([[0.0, 0, 48, 32]]), np.array([5000.0]))
    assert (second.counts.tolist(), second.redundant.tolist()) == ([4], [1])
    small, medium, large, every = summarize(join_counts([first, second]))
    assert small[1:] == (2, 1.0, 0.5, 0.5)
    assert medium[1:] == (1, 4.0, 0.0, 0.25)
    assert large.num_objects == 0 and math.isnan(large.queries_per_object)
    assert every[1:] == (3, 2.0, pytest.approx(1 / 3), pytest.approx(2 / 6))


def test_removal_leaves_no_redundant_query() -> None:
    model = build(tiny_model_cfg())
    batch, samples = make_batch([torch.randn(3, 160, 224)])
    found = model.initial_queries(batch, samples)
    image = np.array([[0.0, 0, 224, 160]])  # one object, the whole image
    shares = []
    for indices in (found.best, found.chosen):
        places = locate_tokens(indices[0].numpy(), found.level_shapes, found.batch_shape)
        shares.append(summarize(count_queries(places, image, np.ones(1)))[-1].share_redundant)
    assert shares[0] > 0
    assert shares[1] == 0
    inspected = model.inspect(batch, samples).two_stage.selection
    assert torch.equal(found.chosen, inspected.indices)


def test_initial_queries_of_dino_are_its_decoder_inputs() -> None:
    model = build(small_dino())
    batch, samples = make_batch([torch.randn(3, 96, 128), torch.randn(3, 64, 100)])
    found = model.initial_queries(batch, samples)
    assert torch.equal(found.best, found.chosen)
    with torch.no_grad():
        encoder_inputs, _ = model.pre_transformer(model.extract_feat(batch), samples)
        decoder_inputs, _ = model.pre_decoder(**model.forward_encoder(**encoder_inputs))
    places = locate_tokens(found.best[0].numpy(), found.level_shapes, found.batch_shape)
    assert len(places.points) == decoder_inputs['reference_points'].size(1) == 50
    # A two-stage box starts at the centre of its cell and moves little before any training.
    moved = decoder_inputs['reference_points'][0, :, :2].numpy() * (128, 96) - places.points
    assert np.abs(moved).max() < 8
