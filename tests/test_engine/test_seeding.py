"""Random numbers follow from the run's seed, the process and the number of the batch or step."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from toy_training import Recorder, run

from mmdet_salience.engine.seeding import DATA, EPOCH, STEP, seed_everything


@pytest.fixture(autouse=True)
def generators() -> Iterator[None]:
    """Put the generators back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def draws(*where: int) -> tuple[float, float, float]:
    """First numbers of the three generators at a place."""
    seed_everything(*where)
    return random.random(), float(np.random.rand()), torch.rand((), dtype=torch.double).item()


def test_same_place_draws_the_same() -> None:
    assert draws(7, STEP, 1, 30) == draws(7, STEP, 1, 30)


def test_every_place_draws_others() -> None:
    """Seed, kind, process and number count for each generator."""
    places = list(itertools.product((0, 1), (DATA, STEP, EPOCH), (0, 1, 2), (0, 1, 2)))
    numbers = [draws(*place) for place in places]
    for generator in zip(*numbers, strict=True):
        assert len(set(generator)) == len(places)


def train_as(folder: Path, rank: int, module: str) -> Recorder:
    """Train where a module believes to be in a process of several."""
    with mock.patch(f'mmdet_salience.engine.{module}.get_rank', return_value=rank):
        return run(folder)


@pytest.mark.parametrize('module', ['resumable_loop', 'seeding'])
def test_processes_draw_other_numbers(tmp_path: Path, module: str) -> None:
    """In the first step of the model already, and for the first batch of the data."""
    losses = [train_as(tmp_path / str(rank), rank, module).losses for rank in (0, 1)]
    assert losses[0][1] != losses[1][1]
    assert train_as(tmp_path / 'again', 1, module).losses == losses[1]
