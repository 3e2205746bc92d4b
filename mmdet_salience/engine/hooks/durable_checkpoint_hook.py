"""MMEngine's CheckpointHook in an order that never leaves a run without a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from ..durable_files import remove_drafts, write_durably
from ..resume import BEST_PREFIX, LAST_CHECKPOINT
from .leftovers import RETIRED_KEY, Kept, name_training, remove_replaced


class LateRemovals:
    """A file backend that notes what is to be removed.

    Args:
        backend: The backend that does everything else.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removals: list[tuple[Any, str]] = []

    def __getattr__(self, name: str) -> Any:
        """What the backend has."""
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Note a file."""
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        """Note a folder; DeepSpeed's checkpoints are folders."""
        self.removals.append((self.backend.rmtree, path))


@HOOKS.register_module()
class DurableCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that removes old checkpoints only after the new one is complete.

    Arguments, file names and times are MMEngine's. :class:`mmdet_salience.engine.DurableRunner`
    puts this hook in the place of ``CheckpointHook`` and writes the files all or nothing. What a
    killed run was writing, or had replaced and not yet removed, is removed at the start of the next
    one.
    """

    file_backend: Any
    best_ckpt_path: str | None

    def before_train(self, runner: Any) -> None:
        """Find the folder, see that no other training uses it, and tidy it up.

        Args:
            runner: The runner.
        """
        super().before_train(runner)
        training = name_training(runner.message_hub)
        if '://' in str(self.out_dir):
            return
        runner.claim_folder(Path(self.out_dir))
        self.keep_to_own_folder()
        if is_main_process():
            folders = {Path(self.out_dir), Path(runner.work_dir)}
            for draft in (draft for folder in folders for draft in remove_drafts(folder)):
                runner.logger.info(f'Removed {draft}, which a killed run was writing.')
            for path in remove_replaced(folders, training, self.list_kept(runner)):
                runner.logger.info(f'Removed {path}, which a killed run had replaced.')

    def keep_to_own_folder(self) -> None:
        """Look for the best checkpoints in this run's folder, whatever path a resumed one says."""
        best = getattr(self, 'best_ckpt_path', None)
        if best is not None:
            self.best_ckpt_path = self.own_best(best)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = None if path is None else self.own_best(path)

    def own_best(self, path: str) -> str | None:
        """Find a best checkpoint in the folder of this run.

        Args:
            path: Its path in a resumed checkpoint, which may have been another folder.

        Returns:
            Its path here; None if there is none, and so nothing to remove.
        """
        own = Path(self.out_dir, Path(path).name)
        return str(own) if own.name.startswith(BEST_PREFIX) and own.is_file() else None

    def list_kept(self, runner: Any) -> Kept:
        """List the checkpoints that a resumed run keeps; for a new one there are none."""
        resumed: Path | None = runner.last_complete
        return Kept(
            template=self.filename_tmpl,
            retired=tuple(runner.message_hub.get_info(RETIRED_KEY, ())),
            best=tuple(Path(path).name for path in self.current_best()),
            resumed=resumed.name if resumed is not None else '',
            iteration=runner.iter,
        )

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        """Keep the best checkpoint of a training; ``runner.val()`` alone has none to keep.

        Args:
            runner: The runner.
            metrics: Metrics of the validation.
        """
        if hasattr(self, 'file_backend'):  # before_train was called
            super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        """Save a checkpoint, then note it as the last one, then remove the oldest.

        Args:
            runner: The runner.
            step: Number in its name.
            meta: Its progress.
        """
        outdated = self.forget_oldest(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_durably(Path(runner.work_dir, LAST_CHECKPOINT), str(self.last_ckpt).encode())
            for old_step in outdated:
                self.remove_checkpoint(old_step)

    def forget_oldest(self, runner: Any, step: int) -> list[int]:
        """Make room for a checkpoint in the list of those that are kept.

        Args:
            runner: The runner, whose message hub has the list.
            step: The new checkpoint.

        Returns:
            Those that are not kept any more.
        """
        if self.max_keep_ckpts <= 0:
            runner.message_hub.update_info(RETIRED_KEY, [])
            return []
        kept = [*(old for old in self.keep_ckpt_ids if old != step), step]
        outdated = kept[: -self.max_keep_ckpts]
        self.keep_ckpt_ids.clear()
        self.keep_ckpt_ids.extend(kept[-self.max_keep_ckpts :])
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        retired = [self.filename_tmpl.format(old) for old in outdated]
        runner.message_hub.update_info(RETIRED_KEY, retired)
        return outdated

    def remove_checkpoint(self, step: int) -> None:
        """Remove a checkpoint.

        Args:
            step: Number in its name.
        """
        path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            self.file_backend.rmtree(path)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        """Save the checkpoint if it is the best so far, then remove the former best.

        Args:
            runner: The runner.
            metrics: Metrics of the validation.
        """
        with self.late_removals() as removals:
            super()._save_best_checkpoint(runner, metrics)
        current = self.current_best()
        for remove, path in removals.removals:
            if str(path) not in current:
                remove(path)

    def current_best(self) -> set[str]:
        """Paths of the best checkpoints."""
        several = getattr(self, 'best_ckpt_path_dict', {})
        paths = (getattr(self, 'best_ckpt_path', None), *several.values())
        return {str(path) for path in paths if path is not None}

    @contextmanager
    def late_removals(self) -> Iterator[LateRemovals]:
        """Note what is to be removed in a block.

        Yields:
            The notes.
        """
        backend = self.file_backend
        self.file_backend = LateRemovals(backend)
        try:
            yield self.file_backend
        finally:
            self.file_backend = backend
