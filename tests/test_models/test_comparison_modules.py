"""What Focus-DETR and the ablations are made of, by pencil."""

import math

import pytest
import torch
from helpers import build, make_batch, tiny_model_cfg
from mmengine.config import ConfigDict

from mmdet_salience.models.layers.background_embedding import (
    AbsoluteBackgroundEmbedding,
    RelativeBackgroundEmbedding,
)
from mmdet_salience.models.layers.geometry import BatchGeometry
from mmdet_salience.models.layers.token_filter import GlobalTokenFilter
from mmdet_salience.models.losses import ForegroundLoss
from mmdet_salience.models.task_modules import (
    ForegroundAssigner,
    QueryRedundancyNMS,
    SalienceAssigner,
    TopQuerySelection,
)


def focus_cfg() -> ConfigDict:
    """A tiny Focus-DETR."""
    cfg = tiny_model_cfg()
    cfg.type = 'FocusDETR'
    cfg.encoder.token_filter = dict(type='GlobalTokenFilter', ratio=0.5, layer_ratios=(1.0, 0.5))
    cfg.encoder.background_embedding = None
    cfg.token_fusion = None
    cfg.query_selection = dict(type='TopQuerySelection')
    cfg.bbox_head.loss_cls = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)
    cfg.bbox_head.loss_salience = dict(type='ForegroundLoss')
    cfg.train_cfg.salience_assigner.type = 'ForegroundAssigner'
    return cfg


def two_levels() -> BatchGeometry:
    """Two images of 4x4 + 2x2 and 2x4 + 1x2 tokens in one batch."""
    return BatchGeometry.from_images([(32, 32), (16, 32)], (32, 32), (8, 16), 16)


def test_global_filter_counts_all_levels_together() -> None:
    geometry = two_levels()
    assert geometry.num_valid_tokens == ((16, 4), (8, 2))
    scores = torch.arange(20, 0, -1, dtype=torch.float32)  # falling with the token's number
    maps = [scores[:16].view(1, 1, 4, 4).repeat(2, 1, 1, 1)]
    maps.append(scores[16:].view(1, 1, 2, 2).repeat(2, 1, 1, 1) + 100)  # the coarse level is best
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[1, 8:16] = mask[1, 18:] = True
    keep = GlobalTokenFilter(ratio=0.5, extra=1, layer_ratios=(1.0, 0.5))
    selection = keep(maps, mask, geometry)
    # int(20 / 2) + 1 and int(10 / 2) + 1; half of that in the second layer.
    assert selection.layer_counts == ((11, 6), (5, 3))
    assert selection.indices[0].tolist() == [16, 17, 18, 19, 0, 1, 2, 3, 4, 5, 6]
    assert selection.layer_indices(0, 20)[1].tolist() == [16, 17, 0, 1, 2, 3, *[20] * 5]


def test_global_filter_keeps_at_most_what_is_there() -> None:
    geometry = BatchGeometry.from_images([(32, 32)], (32, 32), (8, 16), 16)
    keep = GlobalTokenFilter(ratio=1.0, extra=1, layer_ratios=(1.0,))
    maps = [torch.rand(1, 1, 4, 4), torch.rand(1, 1, 2, 2)]
    assert keep(maps, torch.zeros(1, 20, dtype=torch.bool), geometry).layer_counts == ((20,),)
    with pytest.raises(ValueError, match='ratio must be shares'):
        GlobalTokenFilter(ratio=1.5)


def test_foreground_targets_are_binary() -> None:
    box = torch.tensor([[8.0, 8.0, 40.0, 24.0]])  # farthest border of its points: 16 to 32 px
    ranges = ((-1, 24), (24, math.inf))
    shapes = [(8, 8), (4, 4)]
    binary = ForegroundAssigner(ranges).assign([box], shapes, (64, 64))[0]
    soft = SalienceAssigner(ranges).assign([box], shapes, (64, 64))[0]
    assert set(binary.tolist()) == {0.0, 1.0}
    assert torch.equal(binary > 0, soft > 0)
    # Level 0, rows 1 and 2, columns 1 to 4: x = 12, 20, 28, 36. Farthest border of x = 20 and 28
    # is 20 px, of x = 12 and 36 is 28 px, which belongs to level 1.
    assert binary[:64].view(8, 8).nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]


def test_foreground_loss_is_a_mean_over_images() -> None:
    logits = torch.zeros(2, 4)
    targets = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    # At p = 1/2 every BCE is ln 2 and every focal factor 1/4.
    first = (2 * 0.25 + 2 * 0.75) * 0.25 * math.log(2) / 2
    second = 4 * 0.75 * 0.25 * math.log(2)  # no positive token: divided by 1
    loss = ForegroundLoss(loss_weight=1.5)(logits, targets)
    assert loss.item() == pytest.approx(1.5 * (first + second) / 2, rel=1e-6)


def test_top_queries_keep_neighbours() -> None:
    geometry = BatchGeometry.from_images([(32, 32)], (32, 32), (8, 16), 16)
    scores = torch.zeros(1, 20)
    scores[0, [5, 6, 9]] = torch.tensor([3.0, 2.0, 1.0])  # (1, 1) and its neighbours
    mask = torch.zeros(1, 20, dtype=torch.bool)
    top = TopQuerySelection()(scores, mask, geometry, 3)
    assert top.indices.tolist() == [[5, 6, 9]]
    assert top.padding_mask is None
    thinned = QueryRedundancyNMS()(scores, mask, geometry, 3)
    assert thinned.indices[0, 0] == 5
    assert not {6, 9} & set(thinned.indices[0].tolist())


def test_top_queries_of_an_image_with_few_tokens() -> None:
    geometry = two_levels()
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[1, 8:16] = mask[1, 18:] = True
    top = TopQuerySelection()(torch.rand(2, 20), mask, geometry, 12)
    assert top.padding_mask.sum(dim=1).tolist() == [0, 2]  # 10 tokens for 12 queries
    assert not mask[1, top.indices[1, :10]].any()


def test_relative_embedding_depends_on_the_place_in_the_image() -> None:
    relative = RelativeBackgroundEmbedding(embed_dims=4, num_embeddings=5)
    absolute = AbsoluteBackgroundEmbedding(embed_dims=4, num_embeddings=5)
    absolute.load_state_dict(relative.state_dict())
    geometry = BatchGeometry.from_images([(24, 24)], (24, 24), (8, 12), 8)  # 3x3 and 2x2 tokens
    fine, coarse = (x[0] for x in relative(geometry).split([9, 4], dim=1))
    torch.testing.assert_close(coarse, fine[[0, 2, 6, 8]])  # corners are corners at each level
    table = relative.col_embed.weight
    torch.testing.assert_close(fine[1, :2], table[2])  # the middle of three columns, of five rows
    torch.testing.assert_close(absolute(geometry)[0, 1, :2], table[1])


def test_focus_ranks_by_the_decoder_layers_branches() -> None:
    model = build(focus_cfg())
    assert model.ranking_branches == list(model.bbox_head.cls_branches[:2])
    salience = build(tiny_model_cfg())
    assert salience.ranking_branches == [salience.bbox_head.cls_branches[-1]] * 2
    cfg = focus_cfg()
    cfg.decoder.num_layers = 1
    with pytest.raises(ValueError, match=r'2 encoder layers .*decoder.num_layers=1'):
        _ = build(cfg).ranking_branches


def test_focus_detects_the_same_alone_and_in_a_batch() -> None:
    model = build(focus_cfg())
    images = [torch.randn(3, *size) for size in ((70, 96), (160, 130), (33, 200))]
    with torch.no_grad():
        together = model.predict(*make_batch(images))
        alone = [model.predict(*make_batch([image]))[0] for image in images]
    for one, other in zip(alone, together, strict=True):
        found = one.pred_instances.scores, other.pred_instances.scores
        torch.testing.assert_close(*found, atol=1e-6, rtol=0)


@pytest.mark.parametrize('change', ['focus', 'relative', 'top'])
def test_every_parameter_learns(change: str) -> None:
    cfg = focus_cfg() if change == 'focus' else tiny_model_cfg()
    if change == 'relative':
        cfg.encoder.background_embedding.type = 'RelativeBackgroundEmbedding'
    if change == 'top':
        cfg.query_selection = dict(type='TopQuerySelection')
    model = build(cfg).train()
    images = [torch.randn(3, 96, 64), torch.randn(3, 64, 128)]
    batch, samples = make_batch(images, [[[5, 5, 50, 60]], []], [[1], []])
    total, _ = model.parse_losses(model.loss(batch, samples))
    total.backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
