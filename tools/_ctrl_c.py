"""Ctrl-C while a tool starts; imports nothing that takes time."""

import os
import signal
from types import FrameType

STATUS_BASE = 128


def end_now(number: int, frame: FrameType | None) -> None:
    """End the process with the status that shells expect; an import might lose an exception.

    Args:
        number: The signal.
        frame: What was running.
    """
    os._exit(STATUS_BASE + number)


def end_without_traceback() -> None:
    """Let Ctrl-C end this process at once; a training takes it over when its first step begins."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and is not ignored
        signal.signal(signal.SIGINT, end_now)
