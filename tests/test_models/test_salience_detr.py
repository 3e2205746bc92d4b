"""The whole detector: sizes, batches, objects, gradients."""

import pytest
import torch
from helpers import build, make_batch, tiny_model_cfg
from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor


def image(height: int, width: int, seed: int = 0) -> Tensor:
    """Normalised pixels."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(3, height, width, generator=source)


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    """A tiny detector in evaluation mode."""
    return build(tiny_model_cfg())


def detect(model: torch.nn.Module, *images: Tensor) -> list:
    """Detections of a batch, in pixels of the images."""
    batch, samples = make_batch(images)
    with torch.no_grad():
        return [sample.pred_instances for sample in model.predict(batch, samples)]


def train_step(model: torch.nn.Module, images: list, boxes: list, labels: list) -> dict:
    """Losses of one training step, with gradients."""
    model.train()
    model.zero_grad()
    batch, samples = make_batch(images, boxes, labels)
    losses = model.loss(batch, samples)
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    model.eval()
    return losses


@pytest.mark.parametrize(
    'size', [(32, 32), (33, 64), (40, 200), (64, 64), (100, 75), (161, 97), (400, 530)]
)
def test_any_size_predicts_and_trains(model: torch.nn.Module, size: tuple[int, int]) -> None:
    found = detect(model, image(*size))[0]
    assert len(found) > 0
    assert found.bboxes.min() >= 0
    assert (found.bboxes <= torch.tensor([size[1], size[0]] * 2)).all()
    assert torch.isfinite(found.scores).all()
    box = [size[1] * 0.2, size[0] * 0.2, size[1] * 0.8, size[0] * 0.9]
    train_step(build(tiny_model_cfg()), [image(*size)], [[box]], [[1]])


@pytest.mark.parametrize('size', [(2000, 96), (64, 2200)])
def test_maps_beyond_the_background_table(model: torch.nn.Module, size: tuple[int, int]) -> None:
    assert max(size) / 8 > model.encoder.background_embedding.row_embed.num_embeddings
    assert torch.isfinite(detect(model, image(*size))[0].scores).all()


def test_published_settings_on_the_smallest_image() -> None:
    # 22 tokens: fewer than 900 queries, and layers of 2 to 11 tokens instead of 300.
    cfg = tiny_model_cfg(num_queries=900)
    cfg.encoder.layer_cfg.num_dual_tokens = 300
    cfg.encoder.token_filter.layer_ratios = (1.0, 0.2)
    model = build(cfg)
    result = model.inspect(*make_batch([image(32, 32)]))
    assert result.two_stage.logits.shape[1] == 22
    assert result.token_selection.layer_counts == ((11,), (2,))
    assert len(result.detections[0].pred_instances) == 22 * 3
    train_step(model, [image(32, 32), image(64, 40)], [[[2, 2, 30, 20]], []], [[0], []])


def test_same_detections_alone_and_among_equals(model: torch.nn.Module) -> None:
    images = [image(90, 120, seed) for seed in range(3)]
    for single, batched in zip(
        [detect(model, one)[0] for one in images], detect(model, *images), strict=True
    ):
        assert_same(single, batched)


def test_same_detections_among_larger_images(model: torch.nn.Module) -> None:
    # Not only the same tokens and queries: canvases make the whole result independent.
    images = [image(70, 96, 0), image(160, 130, 1), image(33, 200, 2), image(64, 64, 3)]
    batched = detect(model, *images)
    for one, result in zip(images, batched, strict=True):
        assert_same(detect(model, one)[0], result)


def assert_same(single, batched) -> None:
    """Compare detections to rounding; a pair of near-equal scores may swap places."""
    assert len(single) == len(batched)
    torch.testing.assert_close(single.scores, batched.scores, atol=1e-6, rtol=0)
    same = (single.bboxes - batched.bboxes).abs().amax(dim=1) < 1e-3
    same &= single.labels == batched.labels
    assert (~same).sum() <= 2


def test_tokens_and_query_count_in_a_padded_batch(model: torch.nn.Module) -> None:
    small, large = image(70, 96), image(200, 260, 1)
    alone = model.inspect(*make_batch([small]))
    both = model.inspect(*make_batch([small, large]))
    for layer in range(2):
        count = alone.token_selection.layer_counts[layer][0]
        assert both.token_selection.layer_counts[layer][0] == count
        ours = both.token_selection.layer_indices(layer, both.geometry.num_tokens)[0, :count]
        theirs = alone.token_selection.layer_indices(layer, 0)[0]
        assert places(ours, both.geometry) == places(theirs, alone.geometry)
    assert alone.two_stage.logits.shape[1] == both.two_stage.logits.shape[1] == 30
    assert both.two_stage.selection.padding_mask is None


def places(tokens: Tensor, geometry) -> set[tuple[int, int, int]]:
    """(level, row, column) of tokens."""
    levels = torch.cat([torch.full((n,), i) for i, n in enumerate(geometry.level_sizes)])
    starts = torch.tensor([0, *geometry.level_sizes[:-1]]).cumsum(0)
    widths = torch.tensor([width for _, width in geometry.level_shapes])
    level = levels[tokens]
    inside = tokens - starts[level]
    rows, columns = inside // widths[level], inside % widths[level]
    return set(zip(level.tolist(), rows.tolist(), columns.tolist(), strict=True))


@pytest.mark.parametrize('training', [False, True])
def test_raw_outputs_agree_with_predictions(model: torch.nn.Module, training: bool) -> None:
    # In training the fusion sees the whole padded batch, hence equal sizes.
    batch, samples = make_batch([image(70, 96), image(70, 96 if training else 40, 1)])
    with torch.no_grad():
        outputs = model.decode(batch, samples)
        expected = model.bbox_head(**outputs.head_inputs)
        found = model.predict(batch, samples)
        model.training = training  # of the detector alone: batch norms stay as they are
        logits, boxes = model(batch, samples, mode='tensor')
    model.eval()
    torch.testing.assert_close(logits, expected[0])
    torch.testing.assert_close(boxes, expected[1])
    best = logits[-1].flatten(1).max(dim=1).values.sigmoid()
    torch.testing.assert_close(best, torch.stack([f.pred_instances.scores[0] for f in found]))


def test_raw_outputs_need_no_samples(model: torch.nn.Module) -> None:
    batch, samples = make_batch([image(64, 96), image(64, 96, 1)])
    with torch.no_grad():
        alone, told = model(batch), model(batch, samples, mode='tensor')
        padded = model(image(50, 70)[None])  # a size that is no multiple of 32
    for ours, theirs in zip(alone, told, strict=True):
        assert torch.equal(ours, theirs)
    assert padded[0].shape[0] == 2 and padded[0].isfinite().all()


@pytest.mark.parametrize(('second', 'same'), [((160, 130), True), ((64, 64), False)])
def test_training_as_the_release_changes_padded_batches_alone(
    second: tuple[int, int], same: bool
) -> None:
    results = []
    images = [image(160, 130, 0), image(*second, 1)]
    for independent in (True, False):
        cfg = tiny_model_cfg()
        cfg.independent_training = independent
        model = build(cfg)
        torch.manual_seed(0)  # for the denoising noise
        losses = train_step(model, images, [[[2, 2, 60, 50]], [[8, 8, 40, 40]]], [[0], [1]])
        found = detect(build(cfg), *images)[1].scores
        results.append((losses['loss_salience'].item(), losses['enc_loss_cls'].item(), found))
    (salience, classes, scores), (shared_salience, shared_classes, shared_scores) = results
    assert torch.equal(scores, shared_scores)
    assert (salience == shared_salience) == (classes == shared_classes) == same


def test_an_image_with_few_tokens_among_others() -> None:
    model = build(tiny_model_cfg(num_queries=100))
    small, large = image(32, 32), image(128, 96, 1)
    batch = detect(model, small, large)
    assert len(batch[0]) == 22 * 3
    for one, result in zip((small, large), batch, strict=True):
        assert_same(detect(model, one)[0], result)
    losses = train_step(model, [small, large], [[[4, 4, 20, 20]], []], [[2], []])
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())


@pytest.mark.parametrize('with_objects', [True, False])
def test_every_trainable_parameter_gets_a_gradient(with_objects: bool) -> None:
    model = build(tiny_model_cfg())
    with torch.no_grad():  # some weights start at zero and hide those before them
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    boxes = [[[10, 10, 50, 60], [60, 20, 90, 45]], [[5, 5, 20, 20]]]
    labels = [[0, 2], [1]]
    if not with_objects:
        boxes, labels = [[], []], [[], []]
    losses = train_step(model, [image(96, 100), image(64, 64, 1)], boxes, labels)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in trained.values())
    if with_objects:
        silent = {name for name, p in trained.items() if not p.grad.any()}
        # The gates' two hidden units may be dead by chance; test_layers.py looks at wider ones.
        assert {name for name in silent if '.gate.' not in name} == set()
    assert set(losses) >= {'loss_cls', 'loss_bbox', 'loss_iou', 'loss_salience', 'enc_loss_cls'}


def test_one_class_and_hundreds_of_objects() -> None:
    model = build(tiny_model_cfg(num_classes=1, num_queries=40))
    corners = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 100
    boxes = torch.cat((corners, corners + 12), dim=1).tolist()
    train_step(model, [image(128, 128)], [boxes], [[0] * 300])
    assert (detect(model, image(128, 128))[0].labels == 0).all()


def test_training_reduces_the_loss() -> None:
    torch.manual_seed(0)
    model = build(tiny_model_cfg()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch, samples = make_batch([image(96, 96)], [[[20, 30, 60, 80]]], [[1]])
    history = []
    for _ in range(40):
        torch.manual_seed(0)  # the same denoising noise
        total, _ = model.parse_losses(model.loss(batch, samples))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert min(history[-5:]) < 0.7 * history[0]


def test_modules_can_be_replaced_from_the_config() -> None:
    @MODELS.register_module(force=True)
    class ConstantSalience(torch.nn.Module):
        def forward(self, memory, geometry):
            return tuple(memory.new_ones(len(memory), 1, *s) for s in geometry.level_shapes)

    @TASK_UTILS.register_module(force=True)
    class FirstTokens:
        def __call__(self, scores, padding_mask, geometry, num_queries):
            from mmdet_salience.models.task_modules import QuerySelection

            first = torch.arange(num_queries).expand(len(scores), -1)
            return QuerySelection(first, first, None)

    cfg = tiny_model_cfg()
    cfg.salience_predictor = dict(type='ConstantSalience')
    cfg.query_selection = dict(type='FirstTokens')
    cfg.token_fusion = None
    cfg.encoder.background_embedding = None
    result = build(cfg).inspect(*make_batch([image(64, 64)]))
    assert result.two_stage.selection.indices[0].tolist() == list(range(30))
    assert all((level == 1).all() for level in result.salience)
    torch.testing.assert_close(result.memory, result.encoder_memory)


def test_wrong_strides_are_named() -> None:
    cfg = tiny_model_cfg()
    cfg.feature_strides = (4, 8, 16, 32)
    with pytest.raises(ValueError, match='feature_strides'):
        detect(build(cfg), image(64, 64))


def test_a_ratio_for_each_layer_is_required() -> None:
    cfg = tiny_model_cfg()
    cfg.encoder.token_filter.layer_ratios = (1.0, 0.5, 0.2)
    with pytest.raises(ValueError, match='layer_ratios has 3 entries for 2'):
        build(cfg)
