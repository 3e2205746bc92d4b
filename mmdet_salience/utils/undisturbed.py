"""Look at a model in the middle of training without a trace."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate a model without gradients, and leave modes and random numbers as they were.

    Args:
        model: Put into evaluation mode; afterwards each of its modules has its own mode again.

    Yields:
        Nothing. The random states of Python, NumPy, the CPU and the current CUDA device are put
        back at the end, also after an error.
    """
    modes = [(module, module.training) for module in model.modules()]
    states = random.getstate(), np.random.get_state()
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = [torch.cuda.current_device()] if used else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(states[0])
        np.random.set_state(states[1])
