"""Properties of the whole detector, for any structure and any batch."""

import pytest
import torch
import torch.nn.functional as F
from drawn_detectors import (
    RANGES,
    STRIDES,
    Batch,
    Structure,
    batches,
    double_precision,
    examples,
    make_detector,
    structures,
)
from helpers import build, make_batch, tiny_model_cfg
from hypothesis import given
from torch import Tensor

from mmdet_salience.models.detectors import SalienceInspection
from mmdet_salience.models.layers.geometry import BatchGeometry

DIVISOR = 32


@examples(40)
@given(structures(), batches())
def test_detections(structure: Structure, batch: Batch) -> None:
    """Detections lie in the image, budgets and queries are right, batch-mates do not matter."""
    with double_precision():
        assert_detections(structure, batch)


def assert_detections(structure: Structure, batch: Batch) -> None:
    """Check a batch against its images alone."""
    model, images = make_detector(structure), batch.images()
    together = model.inspect(*make_batch(images))
    assert_budgets(together, structure, batch)
    for number, image in enumerate(images):
        alone = model.inspect(*make_batch([image]))
        assert_queries(alone, structure)
        found = alone.detections[0].pred_instances
        assert_inside(found, image.shape[1:], structure.num_classes)
        assert len(found) == min(300, alone.logits[-1, 0].numel())
        assert_same(found, together.detections[number].pred_instances)


def assert_budgets(found: SalienceInspection, structure: Structure, batch: Batch) -> None:
    """Every layer updates as many tokens as spec section 3 says, all of them in the image."""
    selection, geometry = found.token_selection, found.geometry
    num_tokens = geometry.num_tokens
    layers = range(len(structure.layer_percents))
    sets = [selection.layer_indices(layer, num_tokens) for layer in layers]
    for number, size in enumerate(batch.sizes):
        expected = expected_counts(structure, size)
        assert [counts[number] for counts in selection.layer_counts] == expected
        valid = set(valid_tokens(geometry, number).tolist())
        larger = valid
        for count, tokens in zip(expected, sets, strict=True):
            kept = set(tokens[number, :count].tolist())
            assert len(kept) == count
            assert kept <= larger, 'a padded token, or one that the layer before left out'
            assert (tokens[number, count:] == num_tokens).all()
            larger = kept


def expected_counts(structure: Structure, size: tuple[int, int]) -> list[int]:
    """Tokens that each layer updates, from the resized padding mask and whole numbers."""
    canvas = [-(-side // DIVISOR) * DIVISOR for side in size]
    mask = torch.zeros(1, 1, *canvas)
    mask[..., : size[0], : size[1]] = 1
    num_valid = []
    for stride in STRIDES[: structure.num_levels]:
        cells = [-(-side // stride) for side in canvas]
        num_valid.append(int(F.interpolate(mask, size=cells).sum()))
    percents = structure.level_percents
    if structure.has_one_budget:
        total = min(sum(num_valid), sum(num_valid) * percents[0] // 100 + 1)
    else:
        kept = [n * percent // 100 for n, percent in zip(num_valid, percents, strict=True)]
        total = max(1, sum(kept))
    return [max(1, total * percent // 100) for percent in structure.layer_percents]


def valid_tokens(geometry: BatchGeometry, number: int) -> Tensor:
    """Tokens of an image in the padded batch that are not padding."""
    masks = []
    for shape, (height, width) in zip(
        geometry.level_shapes, geometry.valid_shapes[number], strict=True
    ):
        mask = torch.zeros(shape)
        mask[:height, :width] = 1
        masks.append(mask.flatten())
    return torch.cat(masks).nonzero().flatten()


def assert_queries(found: SalienceInspection, structure: Structure) -> None:
    """As many queries as there are to be, no token twice."""
    selection, geometry = found.two_stage.selection, found.geometry
    queries = selection.indices[0].tolist()
    assert selection.padding_mask is None
    assert len(queries) == min(structure.num_queries, sum(geometry.num_valid_tokens[0]))
    assert len(set(queries)) == len(queries)
    assert set(queries) <= set(valid_tokens(geometry, 0).tolist())


def assert_inside(found, size: tuple[int, int], num_classes: int) -> None:
    """Boxes in the image, scores in falling order, classes that exist."""
    height, width = size
    assert (found.bboxes >= 0).all()
    assert (found.bboxes <= torch.tensor((width, height, width, height))).all()
    assert (found.bboxes[:, :2] <= found.bboxes[:, 2:]).all()
    assert torch.isfinite(found.scores).all() and (found.scores.diff() <= 0).all()
    assert ((found.labels >= 0) & (found.labels < num_classes)).all()


def assert_same(alone, among_others) -> None:
    """Equal detections, to rounding."""
    assert torch.equal(alone.labels, among_others.labels)
    torch.testing.assert_close(alone.scores, among_others.scores, atol=1e-9, rtol=0)
    torch.testing.assert_close(alone.bboxes, among_others.bboxes, atol=1e-6, rtol=0)


@examples(20)
@given(structures(), batches(max_images=2, max_objects=500))
def test_training(structure: Structure, batch: Batch) -> None:
    """All losses and gradients are finite, whatever the objects."""
    model = make_detector(structure).train()
    model.zero_grad()
    total, losses = model.parse_losses(model.loss(*batch.with_objects(structure.num_classes)))
    total.backward()
    model.eval()
    assert all(torch.isfinite(value) for value in losses.values()), losses
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    ('key', 'value', 'complaint'),
    [
        ('neck.num_outs', 5, 'neck.num_outs for 5'),
        ('feature_strides', STRIDES, 'feature_strides has 5 .* neck.num_outs for 4, salience_pred'),
        ('salience_predictor.num_levels', 3, 'salience_predictor.num_levels for 3;'),
        ('encoder.layer_cfg.self_attn_cfg.num_levels', 5, 'encoder.layer_cfg.self_attn_cfg'),
        ('encoder.token_filter.level_ratios', (0.5, 1.0), 'token_filter.level_ratios for 2'),
        ('token_fusion.num_levels', 3, 'token_fusion.num_levels for 3'),
        ('decoder.layer_cfg.cross_attn_cfg.num_levels', 1, 'decoder.layer_cfg.cross_attn_cfg'),
        ('train_cfg.salience_assigner.level_ranges', RANGES, 'level_ranges for 5'),
    ],
)
def test_parts_must_agree_about_levels(key: str, value: object, complaint: str) -> None:
    cfg = tiny_model_cfg()
    *parents, last = key.split('.')
    part = cfg
    for parent in parents:
        part = part[parent]
    part[last] = value
    with pytest.raises(ValueError, match=complaint):
        build(cfg)
