"""What detectors cost for an image: work, time and memory, measured side by side."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn

from .detectors import build_detector, detect, make_image
from .flops import ForwardWork, count_work
from .latency import Latency, measure_latency
from .memory import peak_cpu_memory, peak_cuda_memory

Progress = Callable[[Sequence[Any], str], Iterable[Any]]


class Subject(NamedTuple):
    """A detector to measure.

    Attributes:
        cfg: Its config.
        path: Path of the config, for messages.
        checkpoint: Path or address of its weights; None for random ones.
    """

    cfg: Config
    path: str
    checkpoint: str | None = None


class Conditions(NamedTuple):
    """How to measure.

    Attributes:
        shape: (height, width) of the image in pixels.
        device: Where the detectors run.
        repeats: Timed runs of each detector.
        warmup: Runs before these.
        num_classes: Classes of detectors whose config leaves them to the data.
    """

    shape: tuple[int, int]
    device: torch.device
    repeats: int
    warmup: int
    num_classes: int


class Size(NamedTuple):
    """What of a detector depends on no clock.

    Attributes:
        parameters: Parameters.
        trainable: Parameters that training changes.
        padded_shape: (height, width) of the padded image in pixels.
        work: Multiply-adds and tokens.
    """

    parameters: int
    trainable: int
    padded_shape: tuple[int, int]
    work: ForwardWork


class Costs(NamedTuple):
    """What a detector costs for an image.

    Attributes:
        size: Parameters and work.
        latency: Milliseconds.
        memory: MiB on top of the weights; None if not measured.
    """

    size: Size
    latency: Latency
    memory: float | None


def measure_size(model: nn.Module, shape: Sequence[int]) -> Size:
    """Count parameters, multiply-adds and tokens of a detector.

    Args:
        model: The detector; its parameters lose ``requires_grad``.
        shape: (height, width) of the image in pixels.

    Returns:
        What was counted.
    """
    parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    image = make_image(model, shape)
    height, width = image.inputs.shape[2:]
    return Size(parameters, trainable, (height, width), count_work(model, image))


def build_and_count(subject: Subject, conditions: Conditions) -> tuple[nn.Module, Size]:
    """Build a detector and count its work.

    Args:
        subject: The detector.
        conditions: How to measure.

    Returns:
        The detector on its device, and its size.

    Raises:
        ValueError: It cannot be built, or does not run on such an image.
    """
    try:
        model = build_detector(subject.cfg, conditions.num_classes, subject.checkpoint)
        model = model.to(conditions.device)
        return model, measure_size(model, conditions.shape)
    except Exception as error:  # whatever anyone's model may raise
        size = '{} x {}'.format(*conditions.shape)
        raise ValueError(
            f'{subject.path} cannot be built, or not run on an image of {size} pixels: '
            f'{type(error).__name__}: {error}'
        ) from error


def measure_memory(
    runs: Sequence[Callable[[], Any]],
    subjects: Sequence[Subject],
    conditions: Conditions,
    progress: Progress,
) -> list[float | None]:
    """Measure the memory of each detector for an image.

    Args:
        runs: Forward passes of the detectors.
        subjects: The detectors.
        conditions: How to measure.
        progress: Passes the numbers of the detectors on and shows how far they are.

    Returns:
        MiB on top of the weights, None where it could not be measured.
    """
    results: list[float | None] = []
    for number in progress(range(len(subjects)), 'memory'):
        if conditions.device.type == 'cuda':
            results.append(peak_cuda_memory(runs[number], conditions.device))
        else:
            cfg = subjects[number].cfg
            results.append(peak_cpu_memory(cfg, conditions.num_classes, conditions.shape))
    return results


def measure_costs(
    subjects: Sequence[Subject], conditions: Conditions, progress: Progress
) -> list[Costs]:
    """Measure detectors side by side.

    Args:
        subjects: The detectors.
        conditions: How to measure.
        progress: Passes items on and shows how far they are, under a title.

    Returns:
        The costs of each.

    Raises:
        ValueError: A detector cannot be built, or does not run on such an image.
    """
    built = [build_and_count(s, conditions) for s in progress(subjects, 'multiply-adds')]
    runs = [partial(detect, model, make_image(model, conditions.shape)) for model, _ in built]
    latencies = measure_latency(
        runs,
        conditions.device,
        conditions.repeats,
        conditions.warmup,
        lambda turns: progress(turns, 'time'),
    )
    memories = measure_memory(runs, subjects, conditions, progress)
    sizes = [size for _, size in built]
    return [Costs(*costs) for costs in zip(sizes, latencies, memories, strict=True)]
