"""Background embedding, salience predictor and fusion in small."""

import pytest
import torch
import torch.nn.functional as F

from mmdet_salience.models import (
    AbsoluteBackgroundEmbedding,
    CrossLevelTokenFusion,
    SaliencePredictor,
)
from mmdet_salience.models.layers.encoder import left_out
from mmdet_salience.models.layers.geometry import BatchGeometry
from mmdet_salience.models.layers.salience_predictor import resize_aligned


def test_background_is_column_then_row_and_exact_within_the_table() -> None:
    embedding = AbsoluteBackgroundEmbedding(embed_dims=4, num_embeddings=6)
    geometry = BatchGeometry.from_images([(32, 48)], (32, 48), (8,), 16)
    found = embedding(geometry).view(4, 6, 4)
    torch.testing.assert_close(found[2, 5, :2], embedding.col_embed.weight[5])
    torch.testing.assert_close(found[2, 5, 2:], embedding.row_embed.weight[2])


def test_background_interpolates_only_beyond_the_table() -> None:
    embedding = AbsoluteBackgroundEmbedding(embed_dims=2, num_embeddings=3)
    embedding.row_embed.weight.data = torch.tensor([[0.0], [1.0], [4.0]])
    # 5 rows over 3 entries, beside a batch-mate of 3 rows.
    geometry = BatchGeometry.from_images([(40, 8), (24, 8)], (40, 8), (8,), 8)
    rows = embedding(geometry)[..., 1]
    assert rows[0].tolist() == [0.0, 0.5, 1.0, 2.5, 4.0]
    assert rows[1, :3].tolist() == [0.0, 1.0, 4.0]


def test_background_of_each_image_in_a_mixed_batch_is_its_own() -> None:
    embedding = AbsoluteBackgroundEmbedding(embed_dims=4, num_embeddings=3)
    shapes = [(40, 24), (24, 40), (40, 24)]  # the first and the third share a size
    found = embedding(BatchGeometry.from_images(shapes, (40, 40), (8,), 8)).view(3, 5, 5, 4)
    for image, (height, width) in enumerate(shapes):
        alone = embedding(BatchGeometry.from_images([(height, width)], (height, width), (8,), 8))
        rows, columns = height // 8, width // 8
        assert torch.equal(found[image, :rows, :columns], alone.view(rows, columns, 4))


def test_background_is_built_once_per_size() -> None:
    embedding = AbsoluteBackgroundEmbedding(embed_dims=4, num_embeddings=3)
    found = embedding(BatchGeometry.from_images([(40, 24)] * 5, (40, 32), (8,), 8))
    assert found.shape == (5, 20, 4)
    assert found.stride(0) == 0  # one table, seen five times


def test_only_valid_tokens_left_behind_are_background() -> None:
    padding = torch.tensor([[False, False, False, True]])
    assert left_out(padding, torch.tensor([[1, 4]])).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize('sizes', [((3, 4), (5, 7)), ((1, 1), (2, 3)), ((1, 3), (1, 6))])
def test_resizing_within_a_canvas_equals_resizing_alone(sizes: tuple) -> None:
    source, target = sizes
    alone = torch.rand(1, 1, *source)
    expected = F.interpolate(alone, size=target, mode='bilinear', align_corners=True)
    padded = torch.zeros(2, 1, 6, 5)
    padded[0, :, : source[0], : source[1]] = alone
    found = resize_aligned(padded, [source, (6, 5)], [target, (12, 10)])
    assert found.shape == (2, 1, 12, 10)
    torch.testing.assert_close(found[:1, :, : target[0], : target[1]], expected)


def test_salience_does_not_depend_on_a_larger_batch_mate() -> None:
    torch.manual_seed(0)
    predictor = SaliencePredictor(embed_dims=16, num_levels=3)
    predictor.init_weights()
    strides = (8, 16, 32)
    alone = BatchGeometry.from_images([(60, 90)], (64, 96), strides, 32)
    batch = BatchGeometry.from_images([(60, 90), (128, 160)], (128, 160), strides, 32)
    own, padded = [], []
    for (height, width), full in zip(alone.canvas_level_shapes[0], batch.level_shapes, strict=True):
        level = torch.randn(1, 16, height, width)
        large = torch.randn(2, 16, *full)
        large[0, :, :height, :width] = level
        own.append(level.flatten(2).transpose(1, 2))
        padded.append(large.flatten(2).transpose(1, 2))
    single = predictor(torch.cat(own, dim=1), alone)
    both = predictor(torch.cat(padded, dim=1), batch)
    for level, (height, width) in enumerate(alone.level_shapes):
        torch.testing.assert_close(both[level][:1, :, :height, :width], single[level])


def test_every_weight_of_the_fusion_learns() -> None:
    torch.manual_seed(0)
    fusion = CrossLevelTokenFusion(in_channels=256, num_levels=2)
    fusion.init_weights()
    outputs = fusion([torch.randn(2, 256, 6, 5), torch.randn(2, 256, 3, 3)])
    sum(output.square().mean() for output in outputs).backward()
    silent = {name for name, weight in fusion.named_parameters() if not weight.grad.any()}
    # A softmax over pixels does not feel a bias common to all of them.
    assert {name for name in silent if not name.endswith('gate.attention.bias')} == set()


def test_fusion_keeps_sizes_and_single_levels() -> None:
    fusion = CrossLevelTokenFusion(in_channels=16, num_levels=3, groups=2).eval()
    fusion.init_weights()
    maps = [torch.randn(1, 16, *size) for size in ((13, 9), (7, 5), (4, 3))]
    assert [level.shape for level in fusion(maps)] == [level.shape for level in maps]
    only = CrossLevelTokenFusion(in_channels=16, num_levels=1)
    assert only(maps[:1])[0] is maps[0]
