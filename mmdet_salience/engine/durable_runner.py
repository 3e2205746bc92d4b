"""MMEngine's runner that keeps its work: whole checkpoints, exact resuming, orderly stops."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..utils import checkpoint_schemes  # noqa: F401 (lets MMEngine read checkpoints safely)
from ..utils.config_types import type_name
from ..utils.safe_load import CheckpointFileError, trusted, trusting
from .durable_files import BACKEND_NAME, NotWrittenError, write_durably
from .hooks.durable_checkpoint_hook import DurableCheckpointHook
from .loops import substitute
from .plausibility import require_keys, require_sense
from .resumable_loop import ValidationStopHook
from .resume import (
    AUTO,
    BEST_PREFIX,
    INTERRUPTED_PREFIX,
    LAST_CHECKPOINT,
    SUFFIX,
    TrainingCheckpoint,
    find,
    is_elsewhere,
    remote_hint,
)
from .resumed_schedule import StatedSchedule, is_built
from .seeding import can_be_numbered
from .stopping import shield_workers
from .work_folder_lock import claim, is_in_use, release
from .worker_options import without_idle_options

# A resumed test needs no optimizer.
RESUMED_KEYS = ('meta', 'message_hub')


@RUNNERS.register_module()
class DurableRunner(Runner):
    """Runner whose trainings can be stopped at any moment and go on as if they had not been.

    In the place of MMEngine's ``CheckpointHook``, ``IterBasedTrainLoop`` and
    ``EpochBasedTrainLoop`` it uses its own, which are made of those. ``resume='auto'`` goes on from
    the last complete checkpoint of the work folder, and without any starts from ``load_from``.
    ``trust_checkpoints = True`` in the config lets checkpoints hold any Python object.

    Args:
        *args: As for MMEngine's runner.
        **kwargs: As for MMEngine's runner.
    """

    _resume: bool | str
    _load_from: str | None
    last_complete: Path | None = None
    saved_progress: tuple[int, int] | None = None
    _saved_schedules: Any = None
    _superseded: Path | None = None
    _resume_is_chosen = False
    _is_resuming = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._claimed: set[Path] = set()
        super().__init__(*args, **kwargs)

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """Build a dataloader whose workers, if it has any, leave signals to this process.

        Args:
            *args: As for MMEngine's runner.
            **kwargs: As for MMEngine's runner.

        Returns:
            The dataloader.
        """
        given, *others = args or (kwargs.pop('dataloader'),)
        if isinstance(given, DataLoader):
            return given
        loader = Runner.build_dataloader(without_idle_options(given), *others, **kwargs)
        shield_workers(loader)
        return loader

    def build_train_loop(self, loop: Any) -> Any:
        """Build the training loop.

        Args:
            loop: Its config, or the loop.

        Returns:
            A resumable loop where there is one.
        """
        if can_be_numbered(self._train_dataloader):
            loop = substitute(loop)
        return super().build_train_loop(loop)

    def register_hook(self, hook: Hook | dict, priority: Any = None) -> None:
        """Register a hook.

        Args:
            hook: The hook or its config; a ``CheckpointHook`` becomes a durable one.
            priority: As for MMEngine's runner.
        """
        if isinstance(hook, dict) and type_name(hook.get('type')) == 'CheckpointHook':
            hook = dict(hook, type=DurableCheckpointHook)
        super().register_hook(hook, priority)

    def train(self) -> Any:
        """Train.

        Returns:
            The trained model.

        Raises:
            CheckpointFileError: There is no checkpoint to resume from that will do.
            FolderInUseError: Another training runs in the work folder.
            NotWrittenError: A checkpoint could not be written, as on a full disk.
            SystemExit: SIGINT, SIGTERM or SIGHUP came; a checkpoint is saved.
        """
        try:
            self.claim_folder(Path(self.work_dir))
            self.choose_resume()
            self.register_hook(ValidationStopHook())
            with self.trust():  # pretrained parts are loaded in there, too
                return super().train()
        finally:
            self.release_folders()

    def trust(self) -> AbstractContextManager[None]:
        """Context in which checkpoints are trusted if the config says so."""
        return trusting(trusted() or bool(self.cfg.get('trust_checkpoints', False)))

    def choose_resume(self) -> None:
        """Choose the checkpoint to go on from, once.

        Raises:
            FileNotFoundError: The named checkpoint is not there.
            CheckpointFileError: The named one, or none of those that are there, will do.
        """
        if self._resume_is_chosen or not self._resume:
            return
        remote = remote_hint(Path(self.work_dir))
        if remote is not None and (self._resume == AUTO or self._load_from is None):
            self._resume, self._load_from = True, remote
        with self.trust():
            found = self.find_checkpoint()
        self._resume_is_chosen = True
        # MMEngine alone reaches other file systems.
        self._resume = found is not None or is_elsewhere(self._resume, self._load_from)
        if found is None:
            return
        self._load_from = str(found.path)
        self.last_complete = found.path
        own = found.path.parent.resolve() == Path(self.work_dir).resolve()
        if own and found.path.name.startswith(INTERRUPTED_PREFIX):
            self._superseded = found.path
        self.take_seed(found.seed)

    def take_seed(self, seed: int | None) -> None:
        """Take the seed of the run that is resumed.

        MMEngine does that too, but after the order of the images has been drawn.

        Args:
            seed: The seed, None if it is not known.
        """
        stated = self._randomness_cfg.get('seed')
        if seed is None or seed == stated:
            return
        if stated is not None:
            self.logger.warning(f'The run began with seed {seed}; randomness.seed={stated} is left')
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)

    def find_checkpoint(self) -> TrainingCheckpoint | None:
        """Find the checkpoint to go on from; the first process looks for all.

        Returns:
            The checkpoint; None if there is none, or it is not in this file system.

        Raises:
            FileNotFoundError: The named checkpoint is not there.
            CheckpointFileError: The named one, or none of those that are there, will do.
        """
        model = self.model.module if is_model_wrapper(self.model) else self.model
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        found = self.on_main_process(
            lambda: find(self._resume, self._load_from, Path(self.work_dir), shapes)
        )
        return cast(TrainingCheckpoint | None, found)

    def on_main_process(self, function: Callable[[], Any]) -> Any:
        """Call a function in the first process.

        Args:
            function: The function.

        Returns:
            Its result, in all processes.

        Raises:
            Exception: Its error, in all processes, if it says what a user can change.
        """
        answer: list[Any] = [None]
        if is_main_process():
            try:
                answer = [function()]
            except (OSError, ValueError) as error:
                answer = [error]
        broadcast_object_list(answer)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    def claim_folder(self, folder: Path) -> None:
        """Take a folder of checkpoints for this training, until it ends.

        Args:
            folder: The folder, the same in all processes; made if needed.

        Raises:
            FolderInUseError: Another training has its checkpoints there.
            NotWrittenError: It cannot be made.
        """

        def make_and_claim() -> None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise NotWrittenError(folder, 0, number=error.errno or 0) from error
            claim(folder)

        folder = folder.resolve()  # the training may change its directory
        self.on_main_process(make_and_claim)
        self._claimed.add(folder)

    def release_folders(self) -> None:
        """Give back the folders that were claimed."""
        while self._claimed:
            release(self._claimed.pop())

    @master_only
    def dump_config(self) -> None:
        """Write the config to the work folder, unless that of a running training is there."""
        if not is_in_use(Path(self.work_dir)):
            super().dump_config()

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Load a checkpoint.

        Args:
            filename: Its path or address.
            *args: As for MMEngine's runner.
            **kwargs: As for MMEngine's runner.

        Returns:
            The checkpoint.

        Raises:
            CheckpointFileError: It is damaged, or holds what could run code.
        """
        with self.trust():
            checkpoint: dict = super().load_checkpoint(filename, *args, **kwargs)
            if not trusted() and isinstance(checkpoint.get('meta'), dict):
                checkpoint['meta'].pop('config', None)  # resume() would run it as Python
        if self._is_resuming:
            require_keys(filename, checkpoint, RESUMED_KEYS)
            require_sense(filename, checkpoint)
            self._saved_schedules = checkpoint.get('param_schedulers')
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume from a checkpoint; warns where the config has another schedule.

        Args:
            filename: Its path or address.
            *args: As for MMEngine's runner.
            **kwargs: As for MMEngine's runner.

        Raises:
            CheckpointFileError: It cannot be resumed.
        """
        # val() and test() have no optimizer before, and need none.
        stated = StatedSchedule(self) if is_built(self) else None
        self._is_resuming = True
        try:
            super().resume(filename, *args, **kwargs)
        except (CheckpointFileError, OSError):
            raise
        except Exception as error:  # whatever MMEngine and PyTorch make of an unexpected value
            reason = ' '.join(str(error).split())
            raise CheckpointFileError(
                f'{filename} cannot be resumed with this config, whose optimizer or schedules may '
                f'be others ({type(error).__name__}: {reason})'
            ) from error
        finally:
            self._is_resuming = False
        if stated is not None:
            stated.warn(self._saved_schedules)

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a checkpoint, all or nothing where it goes to this file system.

        Args:
            out_dir: Folder.
            filename: Name in there.
            file_client_args: As for MMEngine's runner.
            save_optimizer: Whether the optimizer is saved.
            save_param_scheduler: Whether the schedules are saved.
            meta: Progress and more.
            by_epoch: As for MMEngine's runner.
            backend_args: As for MMEngine's runner.

        Raises:
            NotWrittenError: It could not be written; earlier checkpoints stay.
        """
        meta = {} if meta is None else meta
        is_local = file_client_args is None and isinstance(
            get_file_backend(out_dir, backend_args=backend_args), LocalBackend
        )
        try:
            super().save_checkpoint(
                out_dir,
                filename,
                file_client_args=file_client_args,
                save_optimizer=save_optimizer,
                save_param_scheduler=save_param_scheduler,
                meta=meta,
                by_epoch=by_epoch,
                backend_args=dict(backend=BACKEND_NAME) if is_local else backend_args,
            )
        except NotWrittenError as error:
            raise error.with_intact(self.describe_intact(error.path)) from error
        if save_optimizer and not filename.startswith(BEST_PREFIX):
            self.note_complete(Path(out_dir, filename), (meta['epoch'], meta['iter']))

    def describe_intact(self, failed: Path) -> str:
        """Name the checkpoint that a training can be resumed from.

        Args:
            failed: A checkpoint that could not be written.

        Returns:
            A sentence.
        """
        text = f'The last complete checkpoint: {self.last_complete or "none"}'
        if self.last_complete != failed:
            return text
        # MMEngine writes it a second time, with the name of the new best checkpoint in it.
        return f'{text}, in its first version; this was to note the new best checkpoint in it'

    def note_complete(self, path: Path, progress: tuple[int, int]) -> None:
        """Note a checkpoint that a training can go on from, and drop what it replaces.

        Args:
            path: The checkpoint.
            progress: Its epoch and iteration.
        """
        self.last_complete, self.saved_progress = path, progress
        if self._superseded is not None and self._superseded != path:
            self._superseded.unlink(missing_ok=True)
            self._superseded = None

    def save_interrupted(self, epoch: int, iteration: int) -> str:
        """Save a checkpoint at any step, unless the last one is of this step.

        Args:
            epoch: Epochs that are done.
            iteration: Steps that are done.

        Returns:
            Its path.
        """
        if self.saved_progress != (epoch, iteration):
            hooks = [hook for hook in self.hooks if isinstance(hook, CheckpointHook)]
            folder = str(hooks[0].out_dir) if hooks else self.work_dir
            self.save_checkpoint(
                folder,
                f'{INTERRUPTED_PREFIX}{iteration}{SUFFIX}',
                meta=dict(epoch=epoch, iter=iteration),
                by_epoch=False,
                backend_args=hooks[0].backend_args if hooks else None,
            )
            if is_main_process():
                write_durably(
                    Path(self.work_dir, LAST_CHECKPOINT), str(self.last_complete).encode()
                )
        return str(self.last_complete)
