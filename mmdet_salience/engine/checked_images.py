"""Checked loading of images in the data sets of a runner."""

import os.path as osp
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from mmcv.transforms import LoadImageFromFile
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..datasets.fault_record import FaultRecord
from ..datasets.thin_images import largest_ratio
from ..datasets.transforms import FaultPolicy, LoadCheckedImage
from .hooks.skipped_images_hook import SkippedImagesHook

RECORD_NAME = 'skipped_images.jsonl'
CHOICES = ('skip', 'stop')


class BadImages(NamedTuple):
    """``data_check.bad_images``: what happens to images that cannot be used.

    ``skip`` draws another image in training and takes a grey one in validation and test; ``stop``
    ends the run. ``max_share`` is the largest share of a split to be skipped.
    """

    train: str = 'skip'
    val: str = 'skip'
    test: str = 'stop'
    max_share: float = 0.1


def read_settings(data_check: Mapping[str, Any] | None) -> BadImages | None:
    """Read the setting of a config.

    Args:
        data_check: ``data_check`` of the config.

    Returns:
        The setting, None where the check is switched off.

    Raises:
        ValueError: A key or a value is unknown.
    """
    given = {} if data_check is None else data_check.get('bad_images', {})
    if data_check is None or given is None:
        return None
    unknown = [key for key in given if key not in BadImages._fields]
    if unknown:
        raise ValueError(
            f'data_check.bad_images has no key {unknown[0]}; it has {", ".join(BadImages._fields)}'
        )
    settings = BadImages(**given)
    for key, value in settings._asdict().items():
        if key != 'max_share' and value not in CHOICES:
            raise ValueError(f'data_check.bad_images.{key}={value!r} must be one of {CHOICES}')
    if not isinstance(settings.max_share, (int, float)) or not 0 <= settings.max_share <= 1:
        raise ValueError(
            f'data_check.bad_images.max_share={settings.max_share!r} must be a number from 0 to 1'
        )
    return settings


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """Walk through wrappers of data sets.

    Args:
        dataset: A data set or a wrapper of one or several, of MMEngine or MMDetection.

    Yields:
        Each data set that is no wrapper.
    """
    own = vars(dataset)  # a wrapper may pass on what its data set has
    inner = [*own.get('datasets', ()), *(own[key] for key in ('dataset', '_dataset') if key in own)]
    if not inner:
        yield dataset
    for child in inner:
        yield from leaf_datasets(child)


def skip_limit(num_images: int, max_share: float) -> int:
    """Compute how many images of a split may be skipped.

    Args:
        num_images: Images of the split.
        max_share: Largest share of them.

    Returns:
        The number: at least one, because one bad file shall end no run, but never all.
    """
    return max(0, min(num_images - 1, max(1, int(max_share * num_images))))


def check_loading(dataset: Any, policy: FaultPolicy, check_size: bool = True) -> None:
    """Let a data set load its images by :class:`LoadCheckedImage`; changes it in place.

    Args:
        dataset: The data set, no wrapper. Loaders of other types than ``LoadImageFromFile`` stay.
        policy: What happens to bad images.
        check_size: Whether images must have the annotated size.
    """
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    max_ratio = largest_ratio(transforms)
    for place, loader in enumerate(transforms):
        if type(loader) in (LoadImageFromFile, LoadCheckedImage) and not loader.file_client_args:
            transforms[place] = LoadCheckedImage(
                to_float32=loader.to_float32,
                color_type=loader.color_type,
                imdecode_backend=loader.imdecode_backend,
                backend_args=loader.backend_args,
                check_size=check_size,
                max_ratio=max_ratio,
                policy=policy,
            )


class CheckedImagesRunner(Runner):
    """Runner that skips images that cannot be used, or stops at them, and counts them.

    ``data_check.bad_images`` of the config says what happens, see :class:`BadImages`. Pipelines say
    ``LoadImageFromFile``, so that MMDetection's inference finds what it looks for, and the runner
    exchanges that for the checked loader in the data sets that it builds.

    Args:
        *args: As for MMEngine's runner.
        **kwargs: As for MMEngine's runner.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        data_check = self.cfg.get('data_check', {})
        self.bad_images = read_settings(data_check)
        self.check_sizes = 'size_mismatch' not in (data_check or {}).get('allow', ())
        self.fault_record = FaultRecord(osp.join(self.log_dir, RECORD_NAME))
        self._split = ''  # whose loop is being built
        if self.bad_images is not None:
            self.register_hook(SkippedImagesHook())

    def build_train_loop(self, loop: Any) -> Any:
        """Build the training loop; as MMEngine's runner."""
        with self._building('train'):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation loop; as MMEngine's runner."""
        with self._building('val'):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: Any) -> Any:
        """Build the test loop; as MMEngine's runner."""
        with self._building('test'):
            return super().build_test_loop(loop)

    @contextmanager
    def _building(self, split: str) -> Iterator[None]:
        """Context in which the data loaders are those of a split."""
        self._split = split
        try:
            yield
        finally:
            self._split = ''

    def build_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader; that of a loop checks its images.

        It is told here, before any worker starts: workers copy the data set.

        Args:
            *args: As for MMEngine's runner.
            **kwargs: As for MMEngine's runner.

        Returns:
            The data loader.
        """
        loader = super().build_dataloader(*args, **kwargs)
        if self.bad_images is not None and self._split:
            self._check_images(loader.dataset, self._split, self.bad_images)
        return loader

    def _check_images(self, dataset: Any, split: str, settings: BadImages) -> None:
        """Let the data sets of a split check their images; the settings say what happens then."""
        leaves = list(leaf_datasets(dataset))
        num_images = sum(map(len, leaves))
        skips = getattr(settings, split) == 'skip'
        limit = skip_limit(num_images, settings.max_share) if skips else 0
        for leaf in leaves:
            blank = getattr(leaf, 'test_mode', True)
            policy = FaultPolicy(self.fault_record, split, num_images, limit, blank)
            check_loading(leaf, policy, self.check_sizes)
