"""Autocast to bfloat16 and float16: what stays in float32, and how far results move."""

from collections.abc import Iterator
from functools import cache, partial

import mmcv.ops.multi_scale_deform_attn as mmcv_attention
import numpy as np
import pytest
import torch
from helpers import (
    build,
    golden_keys,
    golden_model_cfg,
    make_batch,
    release_state_dict,
    tiny_model_cfg,
)
from mmdet.structures.bbox import bbox_overlaps
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import amp
from torch import Tensor, nn
from torch.cuda.amp import GradScaler

from mmdet_salience.models.detectors import SalienceInspection
from mmdet_salience.models.layers.precision import full_precision, no_autocast

LOW = (torch.bfloat16, torch.float16)
BOXES, LABELS = [[[20, 30, 60, 80], [64, 8, 88, 24]]], [[1, 0]]
STEPS = 60


def scene() -> Tensor:
    """Noise with two bright objects, (3, 96, 96)."""
    pixels = 0.3 * torch.randn(3, 96, 96, generator=torch.Generator().manual_seed(0))
    for channel, (x1, y1, x2, y2) in enumerate(BOXES[0]):
        pixels[channel, y1:y2, x1:x2] += 2
    return pixels


def low_precision(dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
    """What ``--amp`` and ``val_cfg.fp16`` do to a forward pass."""
    return torch.autocast('cpu', dtype=dtype)


def product_dtype() -> torch.dtype:
    """Precision of matrix products here and now."""
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


# ------------------------------------------------------------------------------ what is float32


class Linear(nn.Linear):
    """A layer that notes the precision that it works in."""

    seen = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Note, and apply."""
        self.seen = (tokens.dtype, product_dtype())
        return super().forward(tokens)


@pytest.mark.parametrize('dtype', LOW)
def test_full_precision_follows_the_weights(dtype: torch.dtype) -> None:
    layer, tokens = Linear(3, 2), torch.randn(4, 3)
    with low_precision(dtype):
        assert layer(tokens).dtype == dtype
        assert full_precision(layer, tokens.to(dtype)).dtype == torch.float32
        assert layer.seen == (torch.float32, torch.float32)
        assert full_precision(nn.GELU(), tokens.to(dtype)).dtype == dtype  # no weights
        assert product_dtype() == dtype
    assert full_precision(layer.to(torch.bfloat16), tokens).dtype == torch.bfloat16


def test_devices_without_autocast_are_left_alone() -> None:
    with low_precision(), no_autocast(torch.ones(1, device='meta')):
        assert product_dtype() == torch.float32


@pytest.mark.parametrize('dtype', LOW)
def test_matching_and_losses_are_in_float32(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(tiny_model_cfg()).train()
    head, seen = model.bbox_head, {}

    def watch(module: nn.Module, inputs: tuple) -> None:
        tensors = [x for item in inputs for x in (item if isinstance(item, tuple) else (item,))]
        kinds = {x.dtype for x in tensors if isinstance(x, Tensor) and x.is_floating_point()}
        seen[type(module).__name__] = kinds | {product_dtype()}

    for loss in (head.loss_cls, head.loss_bbox, head.loss_iou, head.loss_salience):
        loss.register_forward_pre_hook(watch)
    assign = head.assigner.assign

    def watched_assign(pred_instances, **kwargs):
        kinds = {pred_instances.scores.dtype, pred_instances.bboxes.dtype}
        seen['assigner'] = kinds | {product_dtype()}
        return assign(pred_instances=pred_instances, **kwargs)

    monkeypatch.setattr(head.assigner, 'assign', watched_assign)
    with low_precision(dtype):
        losses = model.loss(*make_batch([scene()], BOXES, LABELS))
    assert len(seen) == 5
    assert all(kinds == {torch.float32} for kinds in seen.values()), seen
    assert all(loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.parametrize('dtype', LOW)
def test_sampling_keeps_its_places(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    sample = mmcv_attention.multi_scale_deformable_attn_pytorch

    def watched_sample(value, shapes, places, weights):
        seen.append((value.dtype, places.dtype))
        return sample(value, shapes, places, weights)

    monkeypatch.setattr(mmcv_attention, 'multi_scale_deformable_attn_pytorch', watched_sample)
    model = build(tiny_model_cfg())
    with torch.no_grad(), low_precision(dtype):
        found = model.predict(*make_batch([scene()]))[0].pred_instances
    assert seen == [(torch.float32, torch.float32)] * 4  # two encoder and two decoder layers
    assert found.scores.dtype == found.bboxes.dtype == torch.float32


# ------------------------------------------------------------------------------ the goldens' model


@cache
def golden_inspection(dtype: torch.dtype) -> SalienceInspection:
    """The goldens' model in some precision."""
    model = build(golden_model_cfg())
    model.load_state_dict(release_state_dict(golden_keys()), strict=True)
    pixels = np.random.Generator(np.random.PCG64(11)).standard_normal((3, 480, 560))
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return model.inspect(*make_batch([torch.from_numpy(pixels.astype(np.float32))]))


def same_share(ours: Tensor, theirs: Tensor) -> float:
    """Share of equal tokens of two selections of one size."""
    assert ours.numel() == theirs.numel()
    return len(set(ours.tolist()) & set(theirs.tolist())) / ours.numel()


def test_bounds_of_salience_and_selections() -> None:
    # Its weights are random, so that only what comes before the decoder can be compared.
    exact, low = golden_inspection(torch.float32), golden_inspection(torch.bfloat16)
    for level, reference in zip(low.salience, exact.salience, strict=True):
        torch.testing.assert_close(level, reference, atol=0.01, rtol=0)
    tokens = [result.token_selection.layer_indices(0, 0)[0] for result in (low, exact)]
    assert same_share(*tokens) >= 0.99
    queries = [result.two_stage.selection.indices[0] for result in (low, exact)]
    assert same_share(*queries) >= 0.9


def test_scores_tell_tokens_apart() -> None:
    # In bfloat16 the finest level's 4200 tokens would share a few hundred scores.
    finest = golden_inspection(torch.bfloat16).salience[0]
    assert finest.unique().numel() > 0.9 * finest.numel()


# ------------------------------------------------------------------------------ training


@pytest.fixture(scope='module')
def trained() -> Iterator[tuple[nn.Module, list[float]]]:
    """A tiny detector trained as with ``--amp`` and ``dtype='bfloat16'``, and its losses."""
    with pytest.MonkeyPatch.context() as patch:  # MMEngine has it for GPUs only
        patch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
        patch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(GradScaler, enabled=False))
        patch.setattr(amp, 'get_device', lambda: 'cpu')
        torch.manual_seed(0)
        model = build(tiny_model_cfg()).train()
        wrapper = build_optim_wrapper(
            model,
            dict(
                type='AmpOptimWrapper',
                dtype='bfloat16',
                loss_scale='dynamic',
                optimizer=dict(type='AdamW', lr=2e-3),
                clip_grad=dict(max_norm=1.0),
            ),
        )
        history = []
        for _ in range(STEPS):
            batch, samples = make_batch([scene()], BOXES, LABELS)
            with wrapper.optim_context(model):
                losses = model(batch, samples, mode='loss')
            total, _ = model.parse_losses(losses)
            wrapper.update_params(total)
            history.append(total.item())
        yield model.eval(), history


def test_training_in_bfloat16_learns(trained: tuple[nn.Module, list[float]]) -> None:
    model, history = trained
    assert np.isfinite(history).all()
    assert np.mean(history[-5:]) < 0.5 * np.mean(history[:5])
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert all(torch.isfinite(weight).all() for weight in model.state_dict().values())


def best_of_each_class(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Scores (2,) and boxes (2, 4) of the best detection of each object's class."""
    with torch.no_grad():
        found = model.predict(*make_batch([scene()]))[0].pred_instances
    best = [int((found.labels == label).nonzero()[0]) for label in LABELS[0]]
    return found.scores[best], found.bboxes[best]


@pytest.mark.parametrize(
    ('dtype', 'score_limit', 'pixel_limit'),
    [(torch.bfloat16, 0.05, 2.0), (torch.float16, 0.01, 0.3)],
)
def test_bounds_of_detections(
    trained: tuple[nn.Module, list[float]],
    dtype: torch.dtype,
    score_limit: float,
    pixel_limit: float,
) -> None:
    model, _ = trained
    scores, boxes = best_of_each_class(model)
    assert bbox_overlaps(boxes, torch.tensor(BOXES[0]).float()).diagonal().min() > 0.5
    with low_precision(dtype):
        low_scores, low_boxes = best_of_each_class(model)
    torch.testing.assert_close(low_scores, scores, atol=score_limit, rtol=0)
    torch.testing.assert_close(low_boxes, boxes, atol=pixel_limit, rtol=0)
