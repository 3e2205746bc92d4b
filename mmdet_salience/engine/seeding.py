"""Random numbers that depend on where a training is, and not on how it got there.

Every batch of data and every training step begins with seeds made from the run's seed, the process
and its number. A run that was stopped draws the same numbers as one that was not, for any number
of workers, and no state of a generator has to be saved.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, DataLoader, Sampler

# Kinds of numbers, so that batch 7 and step 7 have nothing in common.
DATA, STEP, EPOCH = range(3)

STATE_WORDS = 4


def seed_everything(seed: int, kind: int, rank: int, number: int) -> None:
    """Seed Python, NumPy and PyTorch, all devices included.

    Args:
        seed: The run's seed.
        kind: What the numbers are for.
        rank: The process.
        number: Number of the batch, step or epoch.
    """
    words = np.random.SeedSequence((seed, kind, rank, number)).generate_state(STATE_WORDS)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.manual_seed(int(words[:2].view(np.uint64)[0]))


class NumberedBatch(list):
    """Indices of a batch.

    Args:
        indices: Indices of its samples.
        number: Its number, counted from the start of the training.
    """

    def __init__(self, indices: Sequence[int] = (), number: int = 0) -> None:
        super().__init__(indices)
        self.number = number


class NumberedBatchSampler(Sampler):
    """Wraps a batch sampler: numbers its batches, and starts anywhere without loading data.

    Args:
        sampler: Sampler of indices.
        batch_size: Samples of a batch.
        inner: Config of the batch sampler; None for PyTorch's.
        drop_last: For PyTorch's batch sampler, whether a last, smaller batch is left out.
        endless: Whether to begin again at the end.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        inner: dict | None = None,
        drop_last: bool = False,
        endless: bool = False,
    ) -> None:
        default = dict(sampler=sampler, batch_size=batch_size)
        self.inner = (
            BatchSampler(sampler, batch_size, drop_last)
            if inner is None
            else DATA_SAMPLERS.build(inner, default_args=default)
        )
        self.sampler = sampler  # here MMEngine looks for set_epoch
        self.batch_size = batch_size
        self.endless = endless
        self.first = 0
        self.skipped = 0

    def start_at(self, first: int, skipped: int) -> None:
        """Choose where the next iteration begins.

        Args:
            first: Number of its first batch.
            skipped: Batches to leave out, which is ``first`` if the sampler never begins again.
        """
        self.first, self.skipped = first, skipped

    def __len__(self) -> int:
        """Batches of the data."""
        return len(self.inner)

    def __iter__(self) -> Iterator[NumberedBatch]:
        """Batches from where :meth:`start_at` says."""
        batches = islice(self.all_batches(), self.skipped, None)
        for number, batch in enumerate(batches, self.first):
            yield NumberedBatch(batch, number)

    def all_batches(self) -> Iterator[list[int]]:
        """Go through the data once, or for ever.

        Yields:
            Indices of a batch.
        """
        for epoch in count() if self.endless else range(1):
            if epoch > 0 and hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            yield from self.inner


class SeededFetch:
    """Loads a batch; PyTorch calls it where it finds it as ``__getitems__`` of a dataset.

    Args:
        dataset: The dataset.
        seed: The run's seed.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.fetch = getattr(dataset, '__getitems__', None)
        self.seed = seed
        self.rank = get_rank()

    def __call__(self, batch: Sequence[int]) -> list[Any]:
        """Load a batch.

        Args:
            batch: Its indices, with its number if random numbers shall follow from that.

        Returns:
            Its samples.
        """
        if isinstance(batch, NumberedBatch):
            seed_everything(self.seed, DATA, self.rank, batch.number)
        if self.fetch is not None:
            return list(self.fetch(list(batch)))
        return [self.dataset[index] for index in batch]


def can_be_numbered(dataloader: Any) -> bool:
    """Whether a dataloader is a config, and not an object that somebody has built."""
    if not isinstance(dataloader, dict):
        return False
    return isinstance(dataloader.get('batch_sampler'), dict | None)


def numbered_dataloader_cfg(dataloader: dict, endless: bool) -> dict:
    """Config of a dataloader with numbered batches.

    Args:
        dataloader: Its config; it stays as it is.
        endless: Whether the data begins again at its end.

    Returns:
        The config.
    """
    cfg = dict(dataloader)
    cfg['batch_sampler'] = dict(
        type=NumberedBatchSampler,
        inner=cfg.get('batch_sampler'),
        drop_last=cfg.pop('drop_last', False),
        endless=endless,
    )
    return cfg


def seed_batches(loader: DataLoader, seed: int) -> None:
    """Let a dataloader seed every batch.

    Args:
        loader: Its batches are numbered.
        seed: The run's seed.
    """
    dataset: Any = loader.dataset
    dataset.__getitems__ = SeededFetch(dataset, seed)
