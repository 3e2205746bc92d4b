"""A runner with a config that follows the data."""

import copy
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from torch import nn
from torch.distributed import init_process_group

from ..datasets.checks.annotation_file import is_local
from ..datasets.checks.dataset_check import (
    Finding,
    check_annotations,
    check_pair,
    describe_findings,
)
from ..datasets.config_data import SPLITS
from ..datasets.thin_images import largest_ratio
from .checked_images import CheckedImagesRunner
from .class_fit import SplitData, number_list
from .cpu_norms import without_sync_norms
from .data_fit import DataFit, fit_to_data
from .durable_runner import DurableRunner
from .evaluated_data import require_evaluable


class CheckpointClassesHook(Hook):
    """Refuse to test weights on data of other classes.

    Args:
        classes: Classes of the test data; none known, if empty.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    def after_load_checkpoint(self, runner: DurableRunner, checkpoint: dict) -> None:
        """Compare the classes.

        Args:
            runner: The runner.
            checkpoint: The checkpoint, before its weights are loaded.

        Raises:
            ValueError: The checkpoint's classes are not those of the test data.
        """
        meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        trained = tuple(meta.get('classes') or meta.get('CLASSES') or ())
        if trained and self.classes and trained != self.classes:
            raise ValueError(
                'The checkpoint was trained for other classes than the test data has, in names or '
                f'in order.\n  checkpoint, {number_list(trained)}\n'
                f'  test data, {number_list(self.classes)}\n'
                'Test on data with the classes of the checkpoint, or train for these classes.'
            )


@RUNNERS.register_module()
class DataFittingRunner(CheckedImagesRunner, DurableRunner):
    """Runner that fits its config to the data and checks the data before training.

    Named by ``runner_type`` in a config, it works in these tools, in MMDetection's and through mim.
    See :func:`fit_to_data` for what it changes. ``data_check`` of the config steers the check:
    ``allow`` names kinds of errors that are only reported, ``max_headers`` bounds how many image
    files are opened; None switches the check off. ``fit_splits`` names the splits to read where not
    all are needed: the training file of COCO takes seconds and gigabytes. Checkpoints, resuming and
    signals are those of :class:`DurableRunner`; what happens to images that cannot be used,
    :class:`CheckedImagesRunner` says.
    """

    data_fit = DataFit((), (), {})

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'DataFittingRunner':
        """Build a runner.

        Args:
            cfg: The config; it stays as it is.

        Returns:
            The runner, whose ``cfg`` is fitted to the data.

        Raises:
            FileNotFoundError: No annotation file of the config is there.
            ValueError: Annotation files and config contradict each other.
        """
        cfg = copy.deepcopy(cfg)
        fit = fit_to_data(cfg, cfg.pop('fit_splits', SPLITS))
        runner = super().from_cfg(cfg)
        runner.data_fit = fit
        for line in describe_splits(fit):
            runner.logger.info(line)
        return runner

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the processes; on a CPU, where MMEngine has no way, ``gloo`` joins them.

        Args:
            env_cfg: As for MMEngine's runner.
        """
        if self.launcher == 'pytorch' and get_device() == 'cpu' and not is_distributed():
            init_process_group('gloo')
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes, on a CPU without naming a GPU.

        Args:
            model_wrapper_cfg: Config of the wrapper; None for the usual one.
            model: The model.

        Returns:
            The model, wrapped where there are several processes.
        """
        if self.distributed and model_wrapper_cfg is None and get_device() == 'cpu':
            model = without_sync_norms(model, self.cfg, self.logger)
            model_wrapper_cfg = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False),
            )
        return super().wrap_model(model_wrapper_cfg, model)

    def train(self) -> Any:
        """Check the data, then train.

        Returns:
            The trained model.

        Raises:
            FileNotFoundError: An annotation file is missing, or the checkpoint to resume from.
            FolderInUseError: Another training runs in the work folder.
            ValueError: The data has errors that ``data_check.allow`` does not name, or there is no
                checkpoint to resume from that will do.
            SystemExit: SIGINT, SIGTERM or SIGHUP came; a checkpoint is saved.
        """
        self.prepare_training()
        return super().train()

    def prepare_training(self) -> None:
        """Claim the work folder, check data and what is resumed, once; raises as :meth:`train`."""
        try:
            self.claim_folder(Path(self.work_dir))
            self.require_splits('train', 'val')
            self.check_data()
            self.choose_resume()
        except BaseException:
            self.release_folders()
            raise
        self.data_fit = self.data_fit._replace(splits=())  # lets go of the annotations

    def val(self) -> Any:
        """Evaluate on the validation data.

        Returns:
            The metrics.

        Raises:
            FileNotFoundError: The annotation file is missing.
            ValueError: A metric would count images of a wrapper wrongly.
        """
        self.require_splits('val')
        return super().val()

    def test(self) -> Any:
        """Evaluate on the test data.

        Returns:
            The metrics.

        Raises:
            FileNotFoundError: The annotation file is missing.
            ValueError: The checkpoint was trained for other classes.
        """
        self.require_splits('test')
        self.register_hook(CheckpointClassesHook(self.data_fit.classes))
        return super().test()

    def require_splits(self, *names: str) -> None:
        """Stop early where an annotation file is missing, or cannot serve as evaluation data.

        Args:
            *names: Splits that are about to be used.

        Raises:
            FileNotFoundError: One of them has no annotation file.
            ValueError: A metric would count images of a wrapper wrongly.
        """
        for name in names:
            if name in self.data_fit.missing:
                raise self.data_fit.missing[name]
            if name != 'train':
                require_evaluable(self.cfg, name)

    def check_data(self) -> None:
        """Check the training and validation data.

        Raises:
            ValueError: There are errors that ``data_check.allow`` does not name.
        """
        settings = self.cfg.get('data_check', {})
        if settings is None:
            return
        allowed, max_headers = settings.get('allow', ()), settings.get('max_headers', 1000)
        fatal = []
        for title, findings in check_splits(self.data_fit.splits, max_headers):
            if findings:
                self.logger.warning(f'{title}\n{describe_findings(findings)}')
            fatal += [f for f in findings if f.is_error and f.kind not in allowed]
        if fatal:
            kinds = sorted({finding.kind for finding in fatal})
            raise ValueError(
                'The data has errors; nothing was trained.\n'
                f'{describe_findings(fatal)}\n'
                'Mend the files, let tools/analysis_tools/check_dataset.py --repair write better '
                'copies, or accept these kinds with --cfg-options '
                f'"data_check.allow=[{",".join(kinds)}]".'
            )


def describe_splits(fit: DataFit) -> list[str]:
    """Describe the data of a config, a line a dataset and one for the classes."""
    lines = [
        f'{data.split}: {len(data.table.file_names)} images, {len(data.table.boxes)} objects, '
        f'{data.table.path}'
        for data in fit.splits
    ]
    return [*lines, f'classes, {number_list(fit.classes)}'] if lines else []


def local_image_root(data: SplitData) -> str | None:
    """Folder of a dataset's images, None if they are not in this file system."""
    return data.image_root if is_local(data.image_root, data.dataset.get('backend_args')) else None


def check_splits(
    splits: Sequence[SplitData], max_headers: int | None
) -> list[tuple[str, tuple[Finding, ...]]]:
    """Check training and validation data, and one against the other.

    Args:
        splits: Datasets with their annotations.
        max_headers: Most image files to open for each; None opens all.

    Returns:
        For each check its title and findings.
    """
    used = [data for data in splits if data.split != 'test']
    results = []
    for data in used:
        evaluated = data.split == 'val'
        root = local_image_root(data)
        findings = check_annotations(
            data.table,
            root,
            max_headers,
            evaluated=evaluated,
            data_root=data.dataset.get('data_root'),
            max_ratio=largest_ratio(data.dataset.get('pipeline', ())),
        )
        results.append((data.table.path, findings))
    for train, val in combinations(used, 2):
        if (train.split, val.split) == ('train', 'val') and train.table.path != val.table.path:
            roots = (local_image_root(train), local_image_root(val))
            title = f'{train.table.path} and {val.table.path}'
            results.append((title, check_pair(train.table, val.table, image_roots=roots)))
    return results
