"""The objects of a COCO annotation file, image by image.

Shapes: M objects of an image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from ..datasets.checks.annotation_table import AnnotationTable, Id


class ImageObjects(NamedTuple):
    """What is annotated in an image.

    Attributes:
        name: File name of the image, relative to the image folder.
        bboxes: Boxes (x1, y1, x2, y2) in pixels, (M, 4).
        labels: Class index of each, (M,).
        areas: Area of each in square pixels, (M,).
        crowd: Whether it is a crowd, (M,) bool.
    """

    name: str
    bboxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


def reads_coco(kind: str | type) -> bool:
    """Whether a dataset reads its annotations as ``CocoDataset`` does.

    Args:
        kind: Type of a dataset, or its name.

    Returns:
        True also for kinds of ``CocoDataset`` that leave its reading as it is; LVIS and Objects365
        number their classes in another way.
    """
    found = DATASETS.get(kind) if isinstance(kind, str) else kind
    is_coco = isinstance(found, type) and issubclass(found, CocoDataset)
    return is_coco and getattr(found, 'load_data_list', None) is CocoDataset.load_data_list


def choose_classes(table: AnnotationTable, classes: Sequence[str]) -> list[int]:
    """Find the categories of some classes as MMDetection numbers them, in the file's order.

    Args:
        table: The annotation file.
        classes: Names of the classes that the detector knows.

    Returns:
        For each category of the file its class index, -1 if it is none of the classes.

    Raises:
        ValueError: The file lacks a class.
    """
    lacking = [name for name in classes if name not in table.category_names]
    if lacking:
        raise ValueError(f'{table.path} has no category {", ".join(lacking)}')
    labels, number = [], 0
    for name in table.category_names:
        labels.append(number if name in classes else -1)
        number += name in classes
    return labels


def objects_by_image(table: AnnotationTable, classes: Sequence[str]) -> dict[Id, ImageObjects]:
    """Sort the objects of some classes by image, as pycocotools would see them.

    Args:
        table: The annotation file.
        classes: Names of the classes.

    Returns:
        The objects by id of the image. Objects of other classes or without a box are left out; an
        area that is missing is that of the box.

    Raises:
        ValueError: The file lacks a class.
    """
    labels = np.array([*choose_classes(table, classes), -1])[table.category_rows]
    usable = (labels >= 0) & (table.image_rows >= 0) & np.isfinite(table.boxes).all(axis=1)
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(table.image_rows[rows], kind='stable')]
    corners, sizes = table.boxes[rows, :2], table.boxes[rows, 2:]
    boxes = np.hstack([corners, corners + sizes])
    areas = np.where(np.isnan(table.areas[rows]), sizes.prod(axis=1), table.areas[rows])
    places = np.arange(len(table.file_names) + 1)
    starts = np.searchsorted(table.image_rows[rows], places).tolist()
    columns = (boxes, labels[rows], areas, table.is_crowd[rows])
    objects = {}
    for row, image_id in enumerate(table.image_ids.tolist()):
        part = slice(starts[row], starts[row + 1])
        objects[image_id] = ImageObjects(table.file_names[row], *(c[part] for c in columns))
    return objects
