"""Paths and threads for all tests."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

# The tests' models are tiny: threads cost more than they bring, above all on a shared machine.
torch.set_num_threads(1)
