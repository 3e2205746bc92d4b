"""What the training loops share that can stop and go on anywhere.

They end in order when a signal asks for it, begin at any step without loading what came before,
and seed every step (see :mod:`.seeding`). A validation that was cut off is done again.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from .gradient_steps import has_stepped
from .memory_errors import naming_images
from .plausibility import BY_EPOCH_KEY
from .seeding import STEP, numbered_dataloader_cfg, seed_batches, seed_everything
from .stopping import StopSignals, describe, exit_status, log_stop

# In the message hub, which is saved and restored with every checkpoint.
VALIDATED_KEY = 'validated_at'
STREAM_KEY = 'data_stream'


class ValidationStopped(Exception):
    """A signal came during a validation."""


class ResumableLoop(ABC):
    """What both loops share; comes before one of MMEngine's among the base classes."""

    runner: Any
    dataloader: Any
    dataloader_iterator: Any
    stop_training: bool
    _epoch: int
    _iter: int
    _max_epochs: int
    _max_iters: int
    val_begin: int
    val_interval: int

    def build_batches(self, runner: Any, dataloader: dict, endless: bool) -> Any:
        """Build a dataloader with numbered and seeded batches.

        Args:
            runner: The runner.
            dataloader: Config of the dataloader.
            endless: Whether the data begins again at its end.

        Returns:
            The dataloader.
        """
        loader = runner.build_dataloader(
            numbered_dataloader_cfg(dataloader, endless),
            seed=runner.seed,
            diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False),
        )
        seed_batches(loader, runner.seed)
        return loader

    def run(self) -> nn.Module:
        """Train; ends with SystemExit after a signal.

        Returns:
            The trained model.
        """
        with StopSignals(self.runner.launcher != 'none') as self.signals:
            self.runner.call_hook('before_train')
            self.note_data()
            if self.position == 0:
                self.runner.message_hub.update_info(VALIDATED_KEY, 0)
            self.validate_if_due()
            try:
                self.run_batches()
            finally:
                self.release_workers()
            self.runner.call_hook('after_train')
        return self.runner.model

    def release_workers(self) -> None:
        """Let the workers of training and validation end now; at exit PyTorch waits for seconds."""
        self.dataloader_iterator = None
        self.dataloader._iterator = None  # of persistent workers
        if self.runner.val_loop is not None:
            self.runner.val_loop.dataloader._iterator = None

    @property
    @abstractmethod
    def position(self) -> int:
        """Steps or epochs that are done, whichever validations are counted in."""

    @property
    @abstractmethod
    def end(self) -> int:
        """Where :attr:`position` ends."""

    @abstractmethod
    def run_batches(self) -> None:
        """Train from where the run is to its end."""

    def run_iter(self, *args: Any) -> None:
        """Train one step, then end the process if a signal has come.

        Args:
            *args: As for MMEngine's loop, the batch last.
        """
        seed_everything(self.runner.seed, STEP, get_rank(), self._iter)
        with naming_images(args[-1]), self.keeping_work(FloatingPointError):
            super().run_iter(*args)  # type: ignore[misc]
        received = self.signals.agreed()
        if received and has_stepped(self.runner):  # gradients that wait are not saved
            self.stop(received)

    def next_batch(self) -> Any:
        """Load the next batch; None at the end of the data."""
        with self.keeping_work(Exception):
            return next(self.dataloader_iterator, None)

    @contextmanager
    def keeping_work(self, *errors: type[Exception]) -> Iterator[None]:
        """Context in which errors end the training only after it is saved.

        For errors that leave weights and optimizer as the last whole step left them, so that the
        training can go on when their cause is removed.

        Args:
            *errors: Their classes.

        Yields:
            Nothing.
        """
        try:
            yield
        except errors as error:
            if self._iter > 0:
                path = self.runner.save_interrupted(self._epoch, self._iter)
                log_stop(type(error).__name__, f'after iteration {self._iter}', path)
            raise

    def stop(self, received: int) -> None:
        """Save a checkpoint and end the process.

        Args:
            received: The signal.

        Raises:
            SystemExit: With the status that shells expect.
        """
        path = self.runner.save_interrupted(self._epoch, self._iter)
        barrier()  # a launcher kills the others when the first process ends
        log_stop(describe(received), f'after iteration {self._iter}', path)
        self.runner.call_hook('after_run')
        raise SystemExit(exit_status(received))

    def validate_if_due(self) -> None:
        """Validate, if that is due here and has not been done."""
        self._decide_current_val_interval()  # type: ignore[attr-defined]
        hub, position = self.runner.message_hub, self.position
        due = position >= self.val_begin and (
            position % self.val_interval == 0 or position == self.end
        )
        # A checkpoint of another training loop does not say; MMEngine does not look back either.
        done = hub.get_info(VALIDATED_KEY, position) == position
        if self.runner.val_loop is None or not due or done:
            return
        hub.update_info(VALIDATED_KEY, position)
        try:
            self.runner.val_loop.run()
        except ValidationStopped:
            self.leave_validation()
            self.stop(self.signals.received)

    def leave_validation(self) -> None:
        """Put back what belongs to the training; the validation is done again after resuming."""
        self.runner.message_hub.update_info(VALIDATED_KEY, 0)
        for hook in self.runner.hooks:
            if isinstance(hook, EMAHook):
                hook.after_val_epoch(self.runner)  # takes the averaged weights out of the model
        self.runner.call_hook('after_val')

    def check_validation(self) -> None:
        """Leave the validation that is running if a signal has come.

        Several processes finish it: they need not have the same number of batches to meet at.

        Raises:
            ValidationStopped: A signal has come.
        """
        if self.signals.received and get_world_size() == 1 and has_stepped(self.runner):
            raise ValidationStopped

    def note_data(self) -> None:
        """Note what the data is made of, and warn if a resumed run had other data."""
        sampler = self.dataloader.batch_sampler
        now = dict(
            samples=len(self.dataloader.dataset),
            batch_size=sampler.batch_size,
            processes=get_world_size(),
        )
        hub = self.runner.message_hub
        before = hub.get_info(STREAM_KEY)
        if self._iter > 0 and before is not None and before != now:
            changes = [f'{key} {before.get(key)}, now {now[key]}' for key in now]
            print_log(
                'The run that is resumed had other data or processes '
                f'({"; ".join(changes)}): it goes on with another order of images.',
                logger='current',
                level=logging.WARNING,
            )
        hub.update_info(STREAM_KEY, now)
        hub.update_info(BY_EPOCH_KEY, isinstance(self, EpochBasedTrainLoop))


class ValidationStopHook(Hook):
    """Lets a signal end a validation that belongs to a training."""

    priority = 'LOWEST'

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Look whether a signal has come.

        Args:
            runner: The runner.
            *args: Not used.
            **kwargs: Not used.
        """
        loop = runner._train_loop
        if isinstance(loop, ResumableLoop):
            loop.check_validation()
