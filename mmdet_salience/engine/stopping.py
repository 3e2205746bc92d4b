"""Ctrl-C, SIGTERM and SIGHUP: remember them, so that a training can end in order."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import print_log
from torch.utils.data import DataLoader

# From a terminal, and from one that is closed, which Windows does not tell.
TERMINAL_SIGNALS = (signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, 'SIGHUP') else []))
SIGNALS = (*TERMINAL_SIGNALS, signal.SIGTERM)

# Exit status of a shell's command that a signal ended.
STATUS_BASE = 128

# A launcher hands on what the terminal has sent already; so soon it is no second Ctrl-C.
ECHO_SECONDS = 2.0


class StopSignals:
    """Context in which :data:`SIGNALS` are remembered; a second Ctrl-C stops at once.

    Outside the main thread nothing is changed: only that one may. A signal that the process was
    told to ignore (``nohup``, jobs in the background of a script) stays ignored.

    Args:
        launched: Whether a launcher started the process.
    """

    def __init__(self, launched: bool = False) -> None:
        self.echo_seconds = ECHO_SECONDS if launched else 0.0
        self.received = 0
        self.received_at = 0.0
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> 'StopSignals':
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            heeded = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            self.previous = {number: signal.signal(number, self.receive) for number in heeded}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take a signal.

        Args:
            number: Its number.
            frame: What was running.
        """
        now = time.monotonic()
        if not self.received:
            self.received, self.received_at = number, now
            with suppress(OSError):  # the terminal may be closed
                os.write(2, b'\nStopping after this step; Ctrl-C once more stops at once.\n')
        elif number == signal.SIGINT and now - self.received_at >= self.echo_seconds:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def agreed(self) -> int:
        """Ask all processes; each has to do so at the same step.

        Returns:
            The signal that one of them has received, 0 if there is none.
        """
        if get_world_size() == 1:
            return self.received
        received = torch.tensor(self.received)
        all_reduce(received, op='max')
        return int(received)


def describe(number: int) -> str:
    """Name a signal."""
    return 'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name


def exit_status(number: int) -> int:
    """Exit status of a process that ends because of a signal."""
    return STATUS_BASE + number


class ShieldedWorker:
    """Start of a dataloader's worker: signals meant for the training do not end it.

    A terminal sends Ctrl-C, and SIGHUP as it is closed, to all processes, and schedulers send
    SIGTERM to all of a job. A worker that dies of it takes the step with it that is to be finished.

    Args:
        inner: What the worker does at its start anyway.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        """Start a worker.

        Args:
            worker_id: Its number.
        """
        for number in TERMINAL_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        parent = parent_process()
        if parent is not None and hasattr(signal, 'sigwaitinfo'):  # not on macOS
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            threading.Thread(target=obey, args=(parent.pid,), daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)


def obey(parent: int) -> None:
    """End this process when its parent sends SIGTERM; wait on if others do.

    Args:
        parent: The parent's process id.
    """
    while True:
        with suppress(InterruptedError):
            if signal.sigwaitinfo([signal.SIGTERM]).si_pid == parent:
                os._exit(0)


def shield_workers(loader: DataLoader) -> None:
    """Shield a dataloader's workers from signals.

    Args:
        loader: Its workers have not started yet.
    """
    loader.worker_init_fn = ShieldedWorker(loader.worker_init_fn)


def log_stop(cause: str, where: str, checkpoint: str) -> None:
    """Log that a training ends, and how it goes on.

    Args:
        cause: The signal or error.
        where: How far it got.
        checkpoint: What was saved.
    """
    print_log(
        f'Stopped by {cause} {where}. Saved: {checkpoint}. To go on, run the same '
        'command with --resume.',
        logger='current',
    )
