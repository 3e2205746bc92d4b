"""Paths and threads for all tests, and how many examples the property tests draw."""

import os
import signal
import sys
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, settings

sys.path.insert(0, str(Path(__file__).parent))

# The tests' models are tiny: threads cost more than they bring, above all on a shared machine.
torch.set_num_threads(1)

# A shell starts background jobs with Ctrl-C switched off, which some tests are about.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# HYPOTHESIS_PROFILE=thorough draws twenty times as many examples, other ones each time, and looks
# for the smallest one that fails, which takes minutes.
os.environ.setdefault(
    'HYPOTHESIS_STORAGE_DIRECTORY', str(Path(__file__).parents[1] / '.pytest_cache' / 'hypothesis')
)
common = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    'quick',
    max_examples=100,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    **common,
)
settings.register_profile('thorough', max_examples=2000, **common)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'quick'))
