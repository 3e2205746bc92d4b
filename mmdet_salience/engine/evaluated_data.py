"""Which data a metric is about, where a split has wrappers of datasets.

Metrics that read an annotation file look images up by id. Two joined datasets may give one id to
two images, and a repeated dataset shows an image several times, which counts its detections as
often.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.config import Config, ConfigDict

from ..datasets.checks.annotation_table import read_annotation_table
from ..datasets.config_data import data_files, leaf_datasets
from ..utils.config_types import type_name

REPEATING = ('RepeatDataset', 'ClassBalancedDataset')
SEPARATE = 'MultiDatasetsEvaluator'
REPORT = 'EvaluationReport'


class EvaluatedData(NamedTuple):
    """A metric of a config and its data."""

    key: str
    """Where the config states the metric."""
    metric: ConfigDict
    """Config of the metric; part of the whole config."""
    datasets: tuple[ConfigDict, ...]
    """Configs of its datasets, without wrappers."""

    @property
    def ann_files(self) -> list[str]:
        """Annotation files of the datasets."""
        return [data_files(dataset).ann_file for dataset in self.datasets]


def evaluated_data(cfg: Config, split: str) -> Iterator[EvaluatedData]:
    """Go through the metrics of a split.

    Args:
        cfg: The config.
        split: ``'val'`` or ``'test'``.

    Yields:
        Each metric with its data, which is all of the split, or with MMDetection's
        ``MultiDatasetsEvaluator`` one of its joined datasets.

    Raises:
        ValueError: That evaluator has another number of metrics than there are datasets.
    """
    loader, evaluator = cfg.get(f'{split}_dataloader'), cfg.get(f'{split}_evaluator')
    if not loader or not evaluator:
        return
    key, metrics = f'{split}_evaluator', evaluator
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        key, metrics = f'{key}.metrics', evaluator['metrics']
    if isinstance(metrics, dict):
        yield EvaluatedData(key, metrics, tuple(leaf_datasets(loader.dataset)))
    if not isinstance(metrics, list | tuple):  # or an object that somebody has built
        return
    parts: Sequence[Any] = [loader.dataset] * len(metrics)
    if isinstance(evaluator, dict) and type_name(evaluator.get('type')) == SEPARATE:
        parts = loader.dataset.get('datasets') or [loader.dataset]
        if not len(parts) == len(metrics) == len(evaluator.get('dataset_prefixes', ())):
            raise ValueError(
                f'{split}_evaluator has {len(metrics)} metrics and '
                f'{len(evaluator.get("dataset_prefixes", ()))} dataset_prefixes for the '
                f'{len(parts)} datasets of {split}_dataloader.dataset; give it one of each for '
                'each dataset'
            )
    for place, (metric, part) in enumerate(zip(metrics, parts, strict=True)):
        if isinstance(metric, dict):
            yield EvaluatedData(f'{key}[{place}]', metric, tuple(leaf_datasets(part)))


def reads_annotations(metric: ConfigDict) -> bool:
    """Whether a metric looks images up in an annotation file."""
    kind = metric.get('type')
    found = METRICS.get(kind) if isinstance(kind, str) else kind
    is_coco = isinstance(found, type) and issubclass(found, CocoMetric)
    return is_coco or type_name(kind) == REPORT


def packs_objects(dataset: ConfigDict) -> bool:
    """Whether a dataset gives its objects to the metric, which then needs no annotation file."""
    return any('instances' in step.get('meta_keys', ()) for step in dataset.get('pipeline', ()))


def repeating_wrappers(dataset: ConfigDict, key: str) -> Iterator[str]:
    """Find wrappers that show images several times.

    Args:
        dataset: Config of a dataset or of a wrapper.
        key: Where the config states it.

    Yields:
        Where the config states each, with its type.
    """
    name = type_name(dataset.get('type'))
    if name in REPEATING and dataset.get('times') != 1:
        yield f'{key}.type={name}'
    if 'dataset' in dataset:
        yield from repeating_wrappers(dataset.dataset, f'{key}.dataset')
    for place, part in enumerate(dataset.get('datasets', ())):
        yield from repeating_wrappers(part, f'{key}.datasets[{place}]')


def require_evaluable(cfg: Config, split: str) -> None:
    """Refuse data that a metric would not understand, or would count wrongly.

    Args:
        cfg: The config, fitted to its data.
        split: ``'val'`` or ``'test'``.

    Raises:
        FileNotFoundError: An annotation file is missing.
        ValueError: The data shows images several times, or gives one id to several images.
    """
    for data in evaluated_data(cfg, split):
        if reads_annotations(data.metric):
            key = f'{split}_dataloader.dataset'
            for place in repeating_wrappers(cfg[f'{split}_dataloader'].dataset, key):
                raise ValueError(
                    f'{place} shows images several times, which {data.key} would count as often; '
                    'name the dataset inside it'
                )
            if len(data.datasets) > 1:
                require_union(data, split)


def require_union(data: EvaluatedData, split: str) -> None:
    """Check that a metric knows the images of several datasets apart, and has their objects.

    ``CocoMetric`` without an annotation file takes the objects that come with the images.

    Args:
        data: The metric and its datasets.
        split: ``'val'`` or ``'test'``.

    Raises:
        FileNotFoundError: An annotation file is missing.
        ValueError: Objects would be missing, or two datasets share an id.
    """
    remedy = (
        f'Evaluate one dataset, or each by itself: {split}_evaluator=dict(type="{SEPARATE}", '
        'dataset_prefixes=[...], metrics=[...]) with a metric for each dataset; or give '
        f'{data.key}.ann_file a file with the images of all, whose ids differ between them. '
        "CocoMetric needs no such file if each dataset's PackDetInputs has 'instances' in meta_keys"
    )
    joined = f'{split}_dataloader.dataset joins {len(data.datasets)} datasets'
    path = data.metric.get('ann_file')
    is_report = type_name(data.metric.get('type')) == REPORT
    if path is None and (is_report or not all(map(packs_objects, data.datasets))):
        raise ValueError(f'{joined}, and {data.key} has no ann_file for all of them. {remedy}.')
    known = None if path is None else set(read_annotation_table(path).image_ids.tolist())
    seen: set[Any] = set()
    for dataset, file in zip(data.datasets, data.ann_files, strict=True):
        ids = set(read_annotation_table(file, dataset.get('backend_args')).image_ids.tolist())
        if ids & seen:
            example = min(ids & seen, key=str)
            raise ValueError(f'{joined}, and several have an image with id {example}. {remedy}.')
        if known is not None and ids - known:
            example = min(ids - known, key=str)
            raise ValueError(f'{joined}, but {path} has no image with id {example}. {remedy}.')
        seen |= ids
