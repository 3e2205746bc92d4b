"""Detectors and batches of any structure, for hypothesis to draw."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from helpers import build, make_batch, tiny_model_cfg
from hypothesis import settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))
DIMS = 16


class Structure(NamedTuple):
    """What varies between the detectors; percents stand for the shares of the token filters.

    With one budget for all levels, as in Focus-DETR, the first percent is its share.
    """

    num_classes: int
    num_queries: int
    level_percents: tuple[int, ...]
    layer_percents: tuple[int, ...]
    num_dual_tokens: int
    candidate_factor: int
    background: str | None
    has_fusion: bool
    has_one_budget: bool

    @property
    def num_levels(self) -> int:
        """Number of feature levels."""
        return len(self.level_percents)


class Batch(NamedTuple):
    """Sizes (height, width) of images and their numbers of objects."""

    sizes: tuple[tuple[int, int], ...]
    num_objects: tuple[int, ...]
    seed: int

    def images(self) -> list[Tensor]:
        """Normalised pixels of each image."""
        source = torch.Generator().manual_seed(self.seed)
        return [torch.randn(3, *size, generator=source) for size in self.sizes]

    def with_objects(self, num_classes: int) -> tuple[Tensor, list[DetDataSample]]:
        """Padded images and samples with objects from half a pixel to the whole image."""
        source = torch.Generator().manual_seed(self.seed)
        boxes, labels = [], []
        for (height, width), count in zip(self.sizes, self.num_objects, strict=True):
            corner, extent = torch.rand(2, count, 2, generator=source)
            size = torch.tensor((width, height))
            start = corner * (size - 1)
            end = start + 0.5 + extent * (size - start - 0.5)
            boxes.append(torch.cat((start, end), dim=1).tolist())
            labels.append(torch.randint(num_classes, (count,), generator=source).tolist())
        return make_batch(self.images(), boxes, labels)


def examples(count: int) -> settings:
    """Draw ``count`` examples in the quick profile, more in the thorough one."""
    return settings(max_examples=max(1, count * settings.default.max_examples // 100))


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """Draw the structure of a detector."""
    percents = st.integers(1, 100)
    layers = draw(st.lists(percents, min_size=1, max_size=3))
    return Structure(
        num_classes=draw(st.one_of(st.integers(1, 20), st.integers(1, 1200))),
        num_queries=draw(st.integers(1, 60)),
        level_percents=tuple(draw(st.lists(percents, min_size=1, max_size=len(STRIDES)))),
        layer_percents=tuple(sorted(layers, reverse=True)),
        num_dual_tokens=draw(st.integers(1, 40)),
        candidate_factor=draw(st.integers(1, 4)),
        background=draw(
            st.sampled_from((None, 'AbsoluteBackgroundEmbedding', 'RelativeBackgroundEmbedding'))
        ),
        has_fusion=draw(st.booleans()),
        has_one_budget=draw(st.sampled_from((False, False, True))),
    )


@st.composite
def batches(draw: st.DrawFn, max_images: int = 3, max_objects: int = 0) -> Batch:
    """Draw a batch; long images are rare, thin, and lie in one direction."""
    side = st.integers(1, 100)
    usual = st.tuples(side, side)
    long = st.tuples(st.integers(1, 40), st.integers(200, 2200))
    sizes = draw(st.lists(st.one_of(usual, usual, usual, long), min_size=1, max_size=max_images))
    if draw(st.booleans()):
        sizes = [(width, height) for height, width in sizes]
    few = st.integers(0, min(5, max_objects))
    counts = st.one_of(few, few, few, st.integers(0, max_objects))
    objects = draw(st.lists(counts, min_size=len(sizes), max_size=len(sizes)))
    return Batch(tuple(sizes), tuple(objects), draw(st.integers(0, 2**20)))


def detector_cfg(structure: Structure) -> ConfigDict:
    """Config of a detector with 16 channels."""
    num_levels = structure.num_levels
    num_maps = min(num_levels, 3)
    num_stages = num_maps + 1
    cfg = tiny_model_cfg(structure.num_classes, structure.num_queries)
    cfg.backbone.update(
        base_channels=8,
        num_stages=num_stages,
        strides=(1, 2, 2, 2)[:num_stages],
        dilations=(1,) * num_stages,
        out_indices=tuple(range(1, num_stages)),
    )
    cfg.neck.update(in_channels=[16, 32, 64][:num_maps], out_channels=DIMS, num_outs=num_levels)
    cfg.feature_strides = STRIDES[:num_levels]
    cfg.positional_encoding.num_feats = DIMS // 2
    cfg.bbox_head.embed_dims = DIMS
    cfg.salience_predictor.update(embed_dims=DIMS, num_levels=num_levels)
    cfg.token_fusion.update(in_channels=DIMS, num_levels=num_levels, num_units=1)
    if not structure.has_fusion:
        cfg.token_fusion = None
    for part, attention in ((cfg.encoder, 'self_attn_cfg'), (cfg.decoder, 'cross_attn_cfg')):
        for value in part.layer_cfg.values():
            if 'embed_dims' in (value if isinstance(value, dict) else ()):
                value.embed_dims = DIMS
        part.layer_cfg[attention].num_levels = num_levels
    cfg.encoder.num_layers = len(structure.layer_percents)
    cfg.encoder.layer_cfg.num_dual_tokens = structure.num_dual_tokens
    cfg.encoder.token_filter.update(
        level_ratios=[percent / 100 for percent in structure.level_percents],
        layer_ratios=[percent / 100 for percent in structure.layer_percents],
    )
    if structure.has_one_budget:
        filtering = cfg.encoder.token_filter
        filtering.update(type='GlobalTokenFilter', ratio=filtering.pop('level_ratios')[0])
        cfg.query_selection = dict(type='TopQuerySelection')
    else:
        cfg.query_selection.candidate_factor = structure.candidate_factor
    cfg.encoder.background_embedding = structure.background and dict(
        type=structure.background, embed_dims=DIMS
    )
    cfg.train_cfg.salience_assigner.level_ranges = RANGES[:num_levels]
    return cfg


@contextmanager
def double_precision() -> Iterator[None]:
    """Context in which all is computed in float64.

    In float32 two of many tokens may have scores so close that rounding decides which is better,
    and rounding depends on the batch. The next float64 is 1e9 times closer.
    """
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def make_detector(structure: Structure, seed: int = 0) -> torch.nn.Module:
    """Build a detector whose weights all differ from zero, in evaluation mode."""
    logging.disable(logging.INFO)  # pages about how every weight was initialised
    model = build(detector_cfg(structure), seed)
    logging.disable(logging.NOTSET)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.to(torch.get_default_dtype())
