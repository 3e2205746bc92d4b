"""Classes of a config from its annotation files.

MMDetection numbers classes in the order of the annotation file, whatever the order of
``metainfo['classes']``; two files with other orders would mislabel without a word. So all files and
all lists of a config have to agree here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmdet.datasets import CocoDataset
from mmdet.visualization.palette import get_palette
from mmengine.config import Config, ConfigDict

from ..datasets.checks.annotation_table import AnnotationTable
from ..datasets.checks.category_check import check_classes, describe_difference
from ..datasets.config_data import data_files

INDENT = '\n  '


class SplitData(NamedTuple):
    """A dataset of a config with its annotations."""

    split: str
    """``'train'``, ``'val'`` or ``'test'``."""
    dataset: ConfigDict
    """Config of the dataset, no wrapper; part of the whole config."""
    table: AnnotationTable
    """Its annotations."""

    @property
    def image_root(self) -> str:
        """Folder that the file names of the images refer to."""
        return data_files(self.dataset).image_root


def stated_classes(dataset: ConfigDict) -> tuple[str, ...] | None:
    """Classes that a dataset's config states, None if it leaves them to the annotations."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    return None if classes is None else tuple(classes)


def number_list(classes: Sequence[str], most: int = 20) -> str:
    """Write a list of classes for a message, with its length."""
    shown = ', '.join(classes[:most]) + (', ...' if len(classes) > most else '')
    return f'{len(classes)}: {shown}'


def classes_of(data: SplitData) -> tuple[str, ...]:
    """Classes of a dataset: those stated, else those of its annotations.

    Args:
        data: The dataset.

    Returns:
        Class names in the order of the annotation file.

    Raises:
        ValueError: The config states classes that the file does not have, or in another order.
    """
    stated = stated_classes(data.dataset)
    if stated is None:
        return data.table.category_names
    for finding in check_classes(data.table, stated):
        raise ValueError(
            f'The classes that the config states for {data.split}_dataloader.dataset contradict '
            f'{data.table.path}.\n  {INDENT.join(finding.examples)}\n'
            'Leave metainfo.classes out (--cfg-options '
            f'{data.split}_dataloader.dataset.metainfo=None) to take them from the annotations, or '
            'correct the list; a part of the classes, in the order of the file, is fine.'
        )
    return stated


def common_classes(splits: Sequence[SplitData]) -> tuple[str, ...]:
    """Classes that all datasets of a config share.

    Args:
        splits: The datasets, at least one; training data first.

    Returns:
        Class names in order.

    Raises:
        ValueError: Two datasets differ; the message has both lists.
    """
    first, classes = splits[0], classes_of(splits[0])
    for other in splits[1:]:
        if classes_of(other) != classes:
            titles = (first.table.path, other.table.path)
            lines = describe_difference((classes, classes_of(other)), titles)
            raise ValueError(
                f'The classes of {first.split} and {other.split} differ, in names or in order.\n'
                f'  {INDENT.join(lines)}\n'
                'Give both files the same categories in the same order: '
                'tools/analysis_tools/check_dataset.py with --repair writes such copies.'
            )
    return classes


def class_counts(node: Any, path: str = 'model') -> Iterator[tuple[str, ConfigDict]]:
    """Find the numbers of classes in a model's config.

    Args:
        node: Part of the config.
        path: Its place, for messages.

    Yields:
        Place and owner of every ``num_classes``.
    """
    if isinstance(node, dict):
        if 'num_classes' in node:
            yield f'{path}.num_classes', node
        for key, value in node.items():
            yield from class_counts(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from class_counts(value, f'{path}[{index}]')


def fit_model(model: ConfigDict, classes: Sequence[str]) -> None:
    """Set every ``num_classes=None`` of a model; changes the config in place.

    Args:
        model: Config of the model.
        classes: Classes of the data.

    Raises:
        ValueError: A head has another number of classes than the data.
    """
    for place, owner in class_counts(model):
        if owner['num_classes'] is None:
            owner['num_classes'] = len(classes)
        elif '_head' in place and owner['num_classes'] != len(classes):
            raise ValueError(
                f'{place}={owner["num_classes"]}, but the data has {number_list(classes)}. '
                f'Set {place}=None to follow the data.'
            )


def fit_classes(cfg: Config, splits: Sequence[SplitData]) -> tuple[str, ...]:
    """Give a config the classes of its annotation files, in place.

    Args:
        cfg: The config.
        splits: Its datasets with their annotations; training data first.

    Returns:
        Class names in order.

    Raises:
        ValueError: Annotation files, stated classes and the model contradict each other.
    """
    classes = common_classes(splits)
    for data in splits:
        if stated_classes(data.dataset) is None and classes != CocoDataset.METAINFO['classes']:
            metainfo = dict(data.dataset.get('metainfo') or {}, classes=classes)
            if len(classes) > len(metainfo.get('palette') or CocoDataset.METAINFO['palette']):
                metainfo['palette'] = get_palette('random', len(classes))
            data.dataset.metainfo = metainfo
    fit_model(cfg.model, classes)
    return classes
