"""Initial weights against the authors' release, parameter by parameter (tests/data/README.md)."""

import json
import math
from functools import cache

import pytest
import torch
from helpers import DATA, build, release_to_ours, small_model_cfg
from torch import Tensor

SEEDS = (0, 1, 2)
# One in a million samples lies further from what is expected.
DEVIATIONS = 5.0
# How far, in standard deviations, the largest of some normal numbers lies from that of others.
EXTREMES = 2.5


@cache
def initial_weights() -> tuple[dict[str, Tensor], set[str]]:
    """Our weights over all seeds, and which of them are trained, by our names."""
    models = [build(small_model_cfg(num_classes=3), seed) for seed in SEEDS]
    states = [dict(model.named_parameters()) for model in models]
    trained = {name for name, parameter in states[0].items() if parameter.requires_grad}
    weights = {
        name: torch.stack([state[name].detach().double() for state in states]) for name in states[0]
    }
    return weights, trained


@cache
def recorded() -> dict[str, list]:
    """Shape, mean, deviation, largest absolute value and whether it is trained, by our names."""
    stats = json.loads((DATA / 'init_statistics_r18.json').read_text())
    return {ours: stats[name] for ours, name in release_to_ours(stats).items()}


def test_every_parameter_is_compared() -> None:
    weights, trained = initial_weights()
    assert set(weights) == set(recorded())
    assert trained == {name for name, row in recorded().items() if row[4]}


@pytest.mark.parametrize('name', sorted(recorded()))
def test_distribution(name: str) -> None:
    weights = initial_weights()[0][name]
    shape, mean, deviation, largest, _ = recorded()[name]
    assert list(weights.shape[1:]) == shape
    ours = weights.std(correction=0).item()
    # Recorded to 5 digits; both are samples of this size.
    tolerance = 1e-5 + DEVIATIONS * max(ours, deviation) * math.sqrt(2 / weights.numel())
    assert weights.mean().item() == pytest.approx(mean, abs=tolerance)
    assert ours == pytest.approx(deviation, abs=tolerance)
    extreme = 1e-5 + EXTREMES * deviation
    assert weights.abs().max().item() == pytest.approx(largest, abs=extreme)
