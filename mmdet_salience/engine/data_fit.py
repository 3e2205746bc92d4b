"""Fit a config to its data before anything is built: paths, annotation files, classes."""

from collections.abc import Sequence
from typing import NamedTuple

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict

from ..datasets.checks.annotation_table import AnnotationTable, read_annotation_table
from ..datasets.config_data import SPLITS, data_files, move_data_root, split_datasets
from .class_fit import SplitData, fit_classes, fit_model, stated_classes
from .evaluated_data import evaluated_data


class DataFit(NamedTuple):
    """What the annotation files of a config say."""

    splits: tuple[SplitData, ...]
    """Datasets whose annotation file is there, training data first."""
    classes: tuple[str, ...]
    """Class names, empty if neither files nor config nor dataset types say any."""
    missing: dict[str, FileNotFoundError]
    """By split, why its annotation file cannot be read."""


def is_coco(dataset: ConfigDict) -> bool:
    """Whether a dataset is a plain ``CocoDataset``, whose classes come from its file."""
    kind = dataset.get('type')
    return kind is CocoDataset or DATASETS.get(kind) is CocoDataset


def fill_evaluators(cfg: Config) -> None:
    """Let each COCO metric without ``ann_file`` read that of its dataloader, in place.

    Args:
        cfg: The config.

    Raises:
        ValueError: A metric reads another file than its dataloader, which would fail after hours.
    """
    for split in SPLITS[1:]:
        for data in evaluated_data(cfg, split):
            key, metric, files = data.key, data.metric, data.ann_files
            if len(files) != 1 or metric.get('type') != 'CocoMetric':
                continue
            if metric.get('ann_file') is None:
                metric.ann_file = files[0]
            elif metric.ann_file != files[0]:
                raise ValueError(
                    f'{key}.ann_file={metric.ann_file}, but {split}_dataloader reads '
                    f'{files[0]}; leave {key}.ann_file out to follow the dataloader'
                )


def read_splits(
    cfg: Config, names: Sequence[str] = SPLITS
) -> tuple[list[SplitData], dict[str, FileNotFoundError]]:
    """Read the annotation files of a config's COCO datasets, each file once.

    Args:
        cfg: The config.
        names: Splits to read.

    Returns:
        The datasets with annotations, and by split why a file is missing.

    Raises:
        ValueError: A file is no annotation file.
    """
    tables: dict[str, AnnotationTable] = {}
    splits: list[SplitData] = []
    missing: dict[str, FileNotFoundError] = {}
    for split in names:
        for dataset in filter(is_coco, split_datasets(cfg, split)):
            path = data_files(dataset).ann_file
            try:
                if path not in tables:
                    tables[path] = read_annotation_table(path, dataset.get('backend_args'))
                splits.append(SplitData(split, dataset, tables[path]))
            except FileNotFoundError as error:
                missing[split] = FileNotFoundError(
                    f'{error} (of {split}_dataloader.dataset; --cfg-options data_root=... moves '
                    f'all data, {split}_dataloader.dataset.ann_file=... names another file)'
                )
    return splits, missing


def other_classes(cfg: Config) -> tuple[str, ...]:
    """Classes of a config without a dataset in COCO format, such as VOC's: its own, or its type's.

    Args:
        cfg: The config.

    Returns:
        Class names, empty if neither says any.
    """
    for dataset in (dataset for split in SPLITS for dataset in split_datasets(cfg, split)):
        kind = dataset.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        known = stated_classes(dataset) or getattr(kind, 'METAINFO', {}).get('classes')
        if known:
            return tuple(known)
    return ()


def fit_to_data(cfg: Config, names: Sequence[str] = SPLITS) -> DataFit:
    """Fit a config to its data, in place.

    * Datasets and evaluators written for ``default_data_root`` move to ``data_root``, once.
    * COCO metrics without annotation file take that of their dataloader.
    * Class names come from the annotation files where the config states none, and every
      ``num_classes=None`` of the model becomes their number.

    Args:
        cfg: The config.
        names: Splits to read; others keep what the config says of them.

    Returns:
        What the annotation files say.

    Raises:
        FileNotFoundError: No annotation file of the config is there.
        ValueError: A file cannot be read, or files and config contradict each other.
    """
    move_data_root(cfg, cfg.get('default_data_root'))
    fill_evaluators(cfg)
    splits, missing = read_splits(cfg, names)
    if missing and not splits:
        raise next(iter(missing.values()))
    classes = fit_classes(cfg, splits) if splits else other_classes(cfg)
    if not splits and classes:
        fit_model(cfg.model, classes)
    return DataFit(tuple(splits), classes, missing)
