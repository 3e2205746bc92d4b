"""Memory that a detector needs for an image, on top of its weights."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from .detectors import build_detector, detect, make_image

MEBIBYTE = 2**20
PROC = Path('/proc/self')

CUDA_METHOD = 'most memory that PyTorch allocated for an image, without the weights'
CPU_METHOD = (
    'growth of the peak resident memory by the first image in a fresh process, after the weights; '
    'it includes buffers of libraries and what the allocator keeps'
)
NO_METHOD = 'not measured: it needs Linux, where a process can reset its peak'


def peak_cuda_memory(run: Callable[[], Any], device: torch.device) -> float:
    """Measure the most memory that a run allocates on a GPU.

    Args:
        run: What to measure.
        device: The GPU.

    Returns:
        MiB above what was allocated before.
    """
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MEBIBYTE


def can_reset_peak() -> bool:
    """Whether this system lets a process reset its peak of resident memory."""
    try:
        (PROC / 'clear_refs').write_text('5')
        read_status('VmHWM')
    except (OSError, LookupError):
        return False
    return True


def read_status(key: str) -> float:
    """Read an amount of memory from Linux's account of this process.

    Args:
        key: ``'VmRSS'`` for the resident memory, ``'VmHWM'`` for its peak.

    Returns:
        MiB.

    Raises:
        LookupError: The account has no such entry.
        OSError: There is no such account.
    """
    for line in (PROC / 'status').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) / 1024
    raise LookupError(f'{PROC / "status"} has no {key}')


def peak_growth(run: Callable[[], Any]) -> float:
    """Measure by how much a run lets the peak of this process's resident memory grow.

    Args:
        run: What to measure.

    Returns:
        MiB above what was resident before.

    Raises:
        OSError: The system does not let a process reset its peak; see :func:`can_reset_peak`.
    """
    (PROC / 'clear_refs').write_text('5')
    before = read_status('VmRSS')
    run()
    return max(0.0, read_status('VmHWM') - before)


def measure_here(cfg: Config, num_classes: int, shape: Sequence[int], threads: int) -> float:
    """Build a detector and measure its first image; a fresh process runs this.

    Args:
        cfg: The config.
        num_classes: Classes of a model whose config leaves them to the data.
        shape: (height, width) of the image in pixels.
        threads: Threads to compute with.

    Returns:
        MiB.
    """
    torch.set_num_threads(threads)
    model = build_detector(cfg, num_classes)
    image = make_image(model, shape)
    return peak_growth(lambda: detect(model, image))


def peak_cpu_memory(cfg: Config, num_classes: int, shape: Sequence[int]) -> float | None:
    """Measure the memory of a detector for its first image, in a process of its own.

    Args:
        cfg: The config.
        num_classes: Classes of a model whose config leaves them to the data.
        shape: (height, width) of the image in pixels.

    Returns:
        MiB on top of the weights; None if it cannot be measured, or the process was killed.
    """
    if not can_reset_peak():
        return None
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        job = pool.submit(measure_here, cfg, num_classes, tuple(shape), torch.get_num_threads())
        try:
            return job.result()
        except BrokenProcessPool:  # out of memory, most likely
            return None
