"""Multiply-adds of a detector by part."""

import pytest
import torch
from helpers import build, tiny_model_cfg

from mmdet_salience.analysis import PARTS, count_work, make_image, sampling_multiply_adds


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    """A tiny Salience DETR."""
    return build(tiny_model_cfg())


def test_sampling_by_hand() -> None:
    # 10 tokens read 4 points of 3 levels in every channel: 4 for interpolating, 1 for weighting.
    assert sampling_multiply_adds(10, 3, 4, 32) == 10 * 3 * 4 * 32 * 5


def test_parts_of_a_tiny_model(model: torch.nn.Module) -> None:
    work = count_work(model, make_image(model, (96, 128)))
    assert set(work.by_part) == set(PARTS)
    assert work.total == sum(work.by_part.values())
    # 12x16, 6x8, 3x4 and 2x2 tokens; all of the coarse levels, 40 and 80 % of the finer ones.
    kept = int(192 * 0.4) + int(48 * 0.8) + 12 + 4
    assert work.layer_tokens == (kept, kept // 2)
    levels, points, dims, queries = 4, 4, 32, 30
    sampled = sum(work.layer_tokens) + model.decoder.num_layers * queries
    assert work.sampling == sampled * levels * points * dims * 5


def test_backbone_by_hand(model: torch.nn.Module) -> None:
    # ResNet-18 on 32 x 32 px: the 7x7 stem on 16x16, then 8x8 maps of 64 channels and so on.
    work = count_work(model, make_image(model, (32, 32)))
    stem = 16 * 16 * 64 * 3 * 49
    first = 4 * 8 * 8 * 64 * 64 * 9
    others = 0
    for side, width in ((4, 128), (2, 256), (1, 512)):
        half = side * side * width * width // 2
        others += half * 9 + 3 * side * side * width * width * 9 + half
    assert work.by_part['backbone'] == stem + first + others


def test_more_tokens_cost_more(model: torch.nn.Module) -> None:
    cfg = tiny_model_cfg()
    cfg.encoder.token_filter.level_ratios = (1.0, 1.0, 1.0, 1.0)
    image = make_image(model, (96, 128))
    dense, sparse = (count_work(each, image) for each in (build(cfg), model))
    assert dense.by_part['encoder'] > sparse.by_part['encoder']
    for part in ('backbone', 'neck', 'predictor', 'fusion', 'decoder'):
        assert dense.by_part[part] == sparse.by_part[part]
