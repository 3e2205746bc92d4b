"""Tensors of Python numbers are made once: on a GPU each of them is a copy that waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from helpers import build, make_batch, tiny_model_cfg
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_salience.models.layers.constants import cached, constant

MAKERS = [(torch, 'tensor'), (torch, 'as_tensor'), (torch, 'from_numpy')]
MAKERS += [(torch.Tensor, 'new_tensor')]


@contextmanager
def counted() -> Iterator[list[str]]:
    """Names of the functions that make tensors of Python numbers, one entry per call."""
    calls: list[str] = []
    patches = []
    for owner, name in MAKERS:
        original = getattr(owner, name)

        def record(*args, name=name, original=original, **kwargs):
            calls.append(name)
            return original(*args, **kwargs)

        patches.append(mock.patch.object(owner, name, record))
    for patch in patches:
        patch.start()
    try:
        yield calls
    finally:
        for patch in patches:
            patch.stop()


@pytest.mark.parametrize('sizes', [[(97, 130)], [(97, 130), (64, 200)], [(32, 32), (130, 97)]])
def test_an_image_of_a_known_size_makes_none(sizes: list[tuple[int, int]]) -> None:
    model = build(tiny_model_cfg(num_queries=100))
    cached.cache_clear()
    counts = []
    for seed in (0, 1):
        source = torch.Generator().manual_seed(seed)
        batch, samples = make_batch([torch.randn(3, *size, generator=source) for size in sizes])
        with counted() as calls, torch.no_grad():
            model.predict(batch, samples)
        counts.append(len(calls))
    assert counts[0] > 5  # so that the count sees them
    assert counts[1] == 0


def test_a_constant_is_made_once_per_value_and_type() -> None:
    device = torch.device('cpu')
    first = constant(((1, 2), (3, 4)), device)
    assert first.tolist() == [[1, 2], [3, 4]]
    assert constant(((1, 2), (3, 4)), device) is first
    assert constant(((1, 2), (3, 5)), device) is not first
    # Equal numbers have equal hashes, whatever their types.
    assert constant(((1.0, 2.0), (3.0, 4.0)), device).dtype == torch.int64
    assert constant(((1, 2), (3, 4)), device, torch.float64).dtype == torch.float64


def test_training_after_inference_mode() -> None:
    """Tensors of inference mode cannot be saved for a backward pass; constants must not be any."""
    cached.cache_clear()
    model = build(tiny_model_cfg())
    batch, samples = make_batch(
        [torch.randn(3, 64, 96), torch.randn(3, 96, 64)], [[[4, 4, 40, 30]], []], [[1], []]
    )
    with torch.inference_mode():
        model.predict(batch, samples)
    model.train()
    sum(v for k, v in model.loss(batch, samples).items() if 'loss' in k).backward()
    assert model.level_embed.grad.isfinite().all()


class Doubling(torch.nn.Module):
    """Uses a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by a constant 2."""
        return x * constant((2,), x.device)


@pytest.mark.parametrize('strict', [False, True])
def test_exporting_leaves_no_stand_ins_behind(strict: bool) -> None:
    cached.cache_clear()
    x = torch.ones(3)
    exported = torch.export.export(Doubling(), (x,), strict=strict)
    assert exported.module()(x).tolist() == Doubling()(x).tolist() == [2, 2, 2]
    with FakeTensorMode():
        assert Doubling()(torch.ones(3)).shape == (3,)
    assert type(constant((2,), x.device)) is torch.Tensor


def test_compiling_makes_one_graph() -> None:
    compiled = torch.compile(Doubling(), backend='eager', fullgraph=True)
    assert compiled(torch.ones(3)).tolist() == [2, 2, 2]
