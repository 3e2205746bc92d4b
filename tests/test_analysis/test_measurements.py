"""Turns, percentiles and memory; no test depends on how fast the machine is."""

import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers import tiny_model_cfg
from tiny_detectors import whole_config

from mmdet_salience.analysis import latency, memory
from mmdet_salience.analysis.costs import Conditions, Subject, build_and_count

CPU = torch.device('cpu')
needs_linux = pytest.mark.skipif(not memory.can_reset_peak(), reason='needs /proc of Linux')


def test_models_take_turns() -> None:
    """Each runs once in every round, warming up or not."""
    order: list[str] = []
    runs = [lambda name=name: order.append(name) for name in 'abc']
    results = latency.measure_latency(runs, CPU, repeats=2, warmup=1)
    assert ''.join(order) == 'abc' * 3
    assert len(results) == 3


def test_only_the_repeats_count() -> None:
    """Median, 10th and 90th percentile of the runs after warming up, for each model."""
    times = iter(
        [900.0, 900.0, *(float(t) for pair in zip(range(11), [7] * 11, strict=True) for t in pair)]
    )
    with mock.patch.object(latency, 'time_run', lambda run, device: next(times)):
        first, second = latency.measure_latency([int, int], CPU, repeats=11, warmup=1)
    assert first == latency.Latency(median=5.0, low=1.0, high=9.0)
    assert second == latency.Latency(median=7.0, low=7.0, high=7.0)


@needs_linux
def test_growth_of_the_peak() -> None:
    """64 MiB that are used and given back show, although an earlier peak was higher.

    In a process of its own: that of the tests has freed memory to use first.
    """
    lines = (
        'import numpy as np',
        'from mmdet_salience.analysis.memory import peak_growth',
        'np.ones(2 * 2**27 // 8)',
        'print("growth", peak_growth(lambda: np.ones(2**26 // 8)))',
    )
    command = [sys.executable, '-c', '\n'.join(lines)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 60 <= float(output.split()[-1]) <= 80


@needs_linux
def test_memory_in_a_fresh_process() -> None:
    """The process builds the model by itself, classes included, and reports a plausible number."""
    cfg = whole_config(tiny_model_cfg(num_classes=None))
    growth = memory.peak_cpu_memory(cfg, 3, (64, 64))
    assert growth is not None
    assert 1 < growth < 1000


def test_memory_elsewhere_is_unknown(tmp_path: Path) -> None:
    """Without Linux's account of a process nothing is invented."""
    with mock.patch.object(memory, 'PROC', tmp_path / 'none'):
        assert not memory.can_reset_peak()
        assert memory.peak_cpu_memory(whole_config(tiny_model_cfg()), 3, (64, 64)) is None


def test_a_model_that_cannot_be_built_is_named() -> None:
    """Whatever it raises becomes an error with the config's path and the reason."""
    conditions = Conditions((64, 64), CPU, 1, 0, 3)
    cfg = whole_config(tiny_model_cfg())
    cfg.model.encoder.num_layers = 5
    with pytest.raises(ValueError, match=r'wrong\.py cannot be built.*layer_ratios'):
        build_and_count(Subject(cfg, 'wrong.py'), conditions)
