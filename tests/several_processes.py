"""Run a function in several processes on the CPU, joined by gloo."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmdet_salience.utils.processes import leave_process_group


def run_on_ranks(work: Callable[..., None], folder: Path, *args: Any, num_ranks: int = 2) -> None:
    """Run ``work(*args)`` on every rank; an error in one of them is raised here.

    The processes are forked from a server that has imported the package once.

    Args:
        work: Function of a module.
        folder: Empty folder for the file where the ranks meet.
        *args: Arguments, to be pickled.
        num_ranks: Number of processes.
    """
    multiprocessing.set_forkserver_preload(['mmdet_salience'])
    torch.multiprocessing.start_processes(
        join_and_run, (num_ranks, folder, work, args), nprocs=num_ranks, start_method='forkserver'
    )


def join_and_run(rank: int, num_ranks: int, folder: Path, work: Callable, args: tuple) -> None:
    """Join the other ranks and run ``work``."""
    torch.set_num_threads(1)
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_ranks))
    torch.distributed.init_process_group(
        'gloo', f'file://{folder}/meeting_point', rank=rank, world_size=num_ranks
    )
    try:
        work(*args)
    finally:
        leave_process_group()
