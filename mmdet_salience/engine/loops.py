"""MMEngine's two training loops, made to stop and go on anywhere; see :mod:`.resumable_loop`."""

from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_rank
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import Dataset

from ..utils.config_types import type_name
from .resumable_loop import ResumableLoop
from .seeding import EPOCH, seed_everything


class NoBatches:
    """Stands in for a dataloader while MMEngine's loop, which may start workers, is set up.

    Args:
        dataset: The dataset.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        """No batches."""
        return iter(())


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(ResumableLoop, IterBasedTrainLoop):
    """Training loop by iterations, for :class:`mmdet_salience.engine.DurableRunner`.

    Args:
        runner: The runner.
        dataloader: Config of the dataloader.
        *args: As for MMEngine's loop.
        **kwargs: As for MMEngine's loop.
    """

    def __init__(self, runner: Any, dataloader: dict, *args: Any, **kwargs: Any) -> None:
        loader = self.build_batches(runner, dataloader, endless=True)
        super().__init__(runner, NoBatches(loader.dataset), *args, **kwargs)
        self.dataloader = loader

    @property
    def position(self) -> int:
        """Steps that are done."""
        return self._iter

    @property
    def end(self) -> int:
        """Steps of the whole training."""
        return self._max_iters

    def run_batches(self) -> None:
        """Train from where the run is to its end."""
        self.runner.call_hook('before_train_epoch')  # all iterations are one epoch to MMEngine
        self.dataloader.batch_sampler.start_at(self._iter, self._iter)
        seed_everything(self.runner.seed, EPOCH, get_rank(), 0)
        if self._iter < self._max_iters:
            self.dataloader_iterator = iter(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(self.next_batch())
            self.validate_if_due()
        self.runner.call_hook('after_train_epoch')


@LOOPS.register_module()
class ResumableEpochBasedTrainLoop(ResumableLoop, EpochBasedTrainLoop):
    """Training loop by epochs, for :class:`mmdet_salience.engine.DurableRunner`.

    Args:
        runner: The runner.
        dataloader: Config of the dataloader.
        *args: As for MMEngine's loop.
        **kwargs: As for MMEngine's loop.
    """

    def __init__(self, runner: Any, dataloader: dict, *args: Any, **kwargs: Any) -> None:
        loader = self.build_batches(runner, dataloader, endless=False)
        super().__init__(runner, loader, *args, **kwargs)

    @property
    def position(self) -> int:
        """Epochs that are done."""
        return self._epoch

    @property
    def end(self) -> int:
        """Epochs of the whole training."""
        return self._max_epochs

    def run_batches(self) -> None:
        """Train from where the run is to its end."""
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.validate_if_due()

    def run_epoch(self) -> None:
        """Train an epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self.batches_done()
        first = self._iter - done
        self.dataloader.batch_sampler.start_at(self._iter, done)
        seed_everything(self.runner.seed, EPOCH, get_rank(), self._epoch)
        self.dataloader_iterator = iter(self.dataloader)
        while (batch := self.next_batch()) is not None:
            self.run_iter(self._iter - first, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def batches_done(self) -> int:
        """Batches of this epoch that a resumed run has trained on already."""
        length = len(self.dataloader)
        done = self._iter - self._epoch * length
        if 0 <= done <= length:
            return done
        return 0  # the data has changed: the epoch starts anew


def substitute(loop: Any) -> Any:
    """Put the resumable loops in the place of MMEngine's.

    Args:
        loop: Config of a training loop; it stays as it is.

    Returns:
        The config, with another type where there is a resumable loop.
    """
    if not isinstance(loop, dict):
        return loop
    loops: dict[Any, type] = {
        'IterBasedTrainLoop': ResumableIterBasedTrainLoop,
        'EpochBasedTrainLoop': ResumableEpochBasedTrainLoop,
    }
    kind = loop.get('type')
    if kind is None and 'by_epoch' in loop:
        rest = {key: value for key, value in loop.items() if key != 'by_epoch'}
        name = 'EpochBasedTrainLoop' if loop['by_epoch'] else 'IterBasedTrainLoop'
        return dict(rest, type=loops[name])
    name = type_name(kind)
    return dict(loop, type=loops[name]) if name in loops else loop
