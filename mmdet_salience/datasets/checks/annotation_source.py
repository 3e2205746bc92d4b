"""Which annotation file, images and classes a dataset of a config stands for."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmengine.config import ConfigDict

from ...utils.environment import import_quietly
from ..config_data import data_files
from ..thin_images import largest_ratio
from .annotation_file import is_local


class AnnotationSource(NamedTuple):
    """What is to be checked.

    Attributes:
        name: How to call it.
        ann_file: Annotation file, path or address.
        image_root: Folder that its file names start from, None where there are no local files.
        classes: Names of the classes, None for all categories of the file: a CocoDataset without
            classes in the config gets them from there, by DataFittingRunner.
        backend_args: Arguments of MMEngine's file backend.
        is_evaluated: Whether CocoMetric will read the file.
        data_root: Folder that holds all data, None if it is not known.
        max_ratio: Ratio of sides from which on an image is too thin for the pipeline.
    """

    name: str
    ann_file: str
    image_root: str | None = None
    classes: tuple[str, ...] | None = None
    backend_args: dict[str, Any] | None = None
    is_evaluated: bool = False
    data_root: str | None = None
    max_ratio: float = math.inf


def _type_classes(dataset_type: str | type) -> tuple[str, ...] | None:
    """Classes that a type of dataset has of its own, which ``CocoDataset`` has not.

    Args:
        dataset_type: The type, or its name in the registry.

    Returns:
        The class names; None if the type is unknown or reads its file differently from
        ``CocoDataset``.
    """
    if dataset_type == 'CocoDataset':
        return ()
    import_quietly('mmdet.datasets')  # takes seconds, for types that few configs have
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS

    found: Any = DATASETS.get(dataset_type) if isinstance(dataset_type, str) else dataset_type
    if found is None or not issubclass(found, CocoDataset):
        return None
    methods = ('load_data_list', 'parse_data_info')
    if any(getattr(found, name) is not getattr(CocoDataset, name) for name in methods):
        return None
    return () if found is CocoDataset else _names(found.METAINFO.get('classes'))


def _names(classes: str | Sequence[str] | None) -> tuple[str, ...]:
    """Class names as a config or a type states them: one, several or none."""
    return (classes,) if isinstance(classes, str) else tuple(classes or ())


def find_annotation_source(dataset: ConfigDict, name: str) -> AnnotationSource | None:
    """Find what a dataset of a config reads, resolved as MMEngine does.

    Args:
        dataset: Config of a dataset, no wrapper.
        name: How to call it.

    Returns:
        The source, None if it is no CocoDataset or one that reads its file in a way of its own.

    Raises:
        ValueError: If the dataset names no annotation file.
    """
    type_classes = _type_classes(dataset.get('type', ''))
    if type_classes is None:
        return None
    if not dataset.get('ann_file'):
        raise ValueError(f'the {name} dataset has no ann_file; set it in the config')
    files = data_files(dataset)
    backend_args = dataset.get('backend_args')
    classes = (dataset.get('metainfo') or {}).get('classes')
    classes = type_classes if classes is None else _names(classes)
    return AnnotationSource(
        name=name,
        ann_file=files.ann_file,
        image_root=files.image_root if is_local(files.image_root, backend_args) else None,
        classes=classes or None,
        backend_args=backend_args,
        is_evaluated=bool(dataset.get('test_mode', False)),
        data_root=dataset.get('data_root') or None,
        max_ratio=largest_ratio(dataset.get('pipeline', ())),
    )
