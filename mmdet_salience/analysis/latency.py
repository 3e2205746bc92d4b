"""Time of several models for an image, measured in turns."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch


class Latency(NamedTuple):
    """Time for an image in milliseconds.

    Attributes:
        median: Median of the repeats.
        low: Their 10th percentile.
        high: Their 90th percentile.
    """

    median: float
    low: float
    high: float


def synchronize(device: torch.device) -> None:
    """Wait until a device has done its work; a CPU has."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def time_run(run: Callable[[], Any], device: torch.device) -> float:
    """Time a run.

    Args:
        run: What to time.
        device: Where it computes.

    Returns:
        Milliseconds.
    """
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return 1000 * (time.perf_counter() - start)


def take_turns(num_runs: int, rounds: int) -> list[int]:
    """Order of the runs, by their numbers: each once, then each once more, and so on.

    A machine that gets slower or faster meanwhile does so for all of them.

    Args:
        num_runs: Runs in a round.
        rounds: Rounds.

    Returns:
        Numbers of the runs.
    """
    return [number for _ in range(rounds) for number in range(num_runs)]


def summarize(times: Sequence[float]) -> Latency:
    """Median and percentiles of times in milliseconds."""
    low, median, high = np.percentile(times, (10, 50, 90))
    return Latency(float(median), float(low), float(high))


def measure_latency(
    runs: Sequence[Callable[[], Any]],
    device: torch.device,
    repeats: int = 10,
    warmup: int = 2,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> list[Latency]:
    """Time several runs in turns.

    Args:
        runs: What to time, a model's forward pass each.
        device: Where they compute.
        repeats: Timed rounds.
        warmup: Rounds before, which are not timed.
        progress: Passes the turns on and shows how far they are.

    Returns:
        The time of each run.
    """
    times: list[list[float]] = [[] for _ in runs]
    for number in progress(take_turns(len(runs), warmup + repeats)):
        times[number].append(time_run(runs[number], device))
    return [summarize(measured[warmup:]) for measured in times]
