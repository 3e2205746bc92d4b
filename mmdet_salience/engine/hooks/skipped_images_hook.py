"""A count of the images that a run skipped."""

from collections.abc import Sequence

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...datasets.fault_record import Fault, FaultRecord

INDENT = '\n  '


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Warn of each skipped image once, and count them at validations and at the end.

    ``DataFittingRunner`` has this hook without being told; ``runner.fault_record`` is its list.

    Args:
        interval: Training iterations between looks at the list.
        most_shown: Images that a count names, the last ones; the file of the list has all.

    Raises:
        ValueError: An argument is less than 1.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 50, most_shown: int = 20) -> None:
        for name, value in dict(interval=interval, most_shown=most_shown).items():
            if value < 1:
                raise ValueError(f'SkippedImagesHook: {name}={value} must be at least 1')
        self.interval, self.most_shown = interval, most_shown
        self._num_warned = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Warn of new images, every ``interval`` iterations; arguments as for MMEngine's hooks."""
        if self.every_n_train_iters(runner, self.interval):
            self._warn(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Warn and count; arguments as for MMEngine's hooks."""
        self._count(runner, ('train', 'val'), 'so far')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Warn and count; arguments as for MMEngine's hooks."""
        self._count(runner, ('test',), 'in all')

    def after_train(self, runner: Runner) -> None:
        """Warn and count; arguments as for MMEngine's hooks."""
        self._count(runner, ('train', 'val'), 'in all')

    def _warn(self, runner: Runner) -> None:
        """Warn of the images that were added to the list since the last look."""
        if not is_main_process():
            return
        faults = read_record(runner)
        for fault in faults[self._num_warned :]:
            runner.logger.warning(f'Skipped {fault.path} ({fault.split}): {fault.reason}')
        self._num_warned = len(faults)

    def _count(self, runner: Runner, splits: Sequence[str], when: str) -> None:
        """Warn, then log how many images of some splits were skipped, and which."""
        if not is_main_process():
            return
        self._warn(runner)
        faults = [fault for fault in read_record(runner) if fault.split in splits]
        if not faults:
            runner.logger.info(f'Skipped images {when}: none')
            return
        counts = [f'{sum(f.split == split for f in faults)} of {split}' for split in splits]
        lines = [f'{fault.path}: {fault.reason}' for fault in faults[-self.most_shown :]]
        more = len(faults) - len(lines)
        before = [f'{more} more, all in {runner.fault_record.path}'] if more else []
        runner.logger.warning(
            f'Skipped images {when}: {", ".join(counts)}{INDENT}{INDENT.join(before + lines)}'
        )


def read_record(runner: Runner) -> list[Fault]:
    """Read a runner's list of skipped images; empty for a runner that has none."""
    record: FaultRecord | None = getattr(runner, 'fault_record', None)
    return record.read() if record else []
