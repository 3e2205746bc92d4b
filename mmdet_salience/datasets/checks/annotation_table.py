"""A COCO annotation file as compact columns.

Shapes: N images, M annotations, K categories. Boxes are ``(x, y, width, height)`` in pixels.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .annotation_file import is_local, load_annotation_content

__all__ = [
    'AnnotationTable',
    'Id',
    'build_annotation_table',
    'find_rows',
    'is_local',
    'read_annotation_table',
]

Id = int | str | float
LARGEST_ID = 2**63


class AnnotationTable(NamedTuple):
    """Columns of an annotation file, in its order.

    Ids are int64, or object where a file has other ones than integers.

    Attributes:
        path: The file.
        category_ids: K ids.
        category_names: K names.
        category_parents: K names of ``supercategory``, empty where there is none.
        image_ids: (N,) ids.
        file_names: N paths, relative to the image folder.
        image_sizes: (N, 2) int64, width and height in pixels, both 0 where one is missing.
        annotation_ids: (M,) ids.
        annotation_image_ids: (M,) ids of the annotations' images.
        annotation_category_ids: (M,) ids of the annotations' categories.
        image_rows: (M,) int64, positions of the annotations' images, -1 where there is none. Of
            images with the same id MMDetection takes the last one, and so does this.
        category_rows: (M,) int64, positions of the annotations' categories, -1 where there is none.
        boxes: (M, 4) float64, a row of NaN where the box is missing or not four numbers.
        areas: (M,) float64 in square pixels, NaN where missing.
        rotations: (M,) float64, degrees in CVAT's attribute of a box, 0 where there is none.
        is_crowd: (M,) bool.
        has_crowd_flag: (M,) bool, whether ``iscrowd`` is there at all.
        is_ignored: (M,) bool, what CocoDataset skips before it looks at the box.
    """

    path: str
    category_ids: tuple[Id, ...]
    category_names: tuple[str, ...]
    category_parents: tuple[str, ...]
    image_ids: np.ndarray
    file_names: tuple[str, ...]
    image_sizes: np.ndarray
    annotation_ids: np.ndarray
    annotation_image_ids: np.ndarray
    annotation_category_ids: np.ndarray
    image_rows: np.ndarray
    category_rows: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    rotations: np.ndarray
    is_crowd: np.ndarray
    has_crowd_flag: np.ndarray
    is_ignored: np.ndarray


def _entries(content: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    """Get a list of the file that must not be empty.

    Args:
        content: What the file holds.
        key: Key of the list.
        path: The file, for messages.

    Returns:
        The list; its entries are not checked yet.

    Raises:
        ValueError: If it is missing or empty.
    """
    if key not in content:
        keys = ', '.join(key if _is_text(key) else ascii(key) for key in list(content)[:10])
        keys = keys or 'none'
        raise ValueError(f"{path} has no '{key}', so it is not in COCO format; its keys: {keys}")
    if not isinstance(content[key], list):
        raise ValueError(f"'{key}' of {path} is a {type(content[key]).__name__}, not a list")
    if not content[key]:
        raise ValueError(f"'{key}' of {path} is empty")
    return content[key]


def _column(entries: Sequence[Any], key: str, where: str) -> list[Any]:
    """Values of a key that every entry must have.

    Args:
        entries: Entries of a list of the file.
        key: The key.
        where: Name of the list, for the message.

    Returns:
        A value for each entry.

    Raises:
        ValueError: If an entry is not an object or lacks the key.
    """
    try:
        return [entry[key] for entry in entries]
    except (KeyError, TypeError, IndexError):
        row = next(
            i for i, entry in enumerate(entries) if not isinstance(entry, dict) or key not in entry
        )
    problem = f"has no '{key}'" if isinstance(entries[row], dict) else 'is not an object'
    raise ValueError(f'entry {row} of {where} {problem}: {repr(entries[row])[:100]}')


def _is_text(value: Any) -> bool:
    """Whether a value is a text that can be written: JSON may hold half a character."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _ids(entries: Sequence[Any], key: str, where: str) -> np.ndarray:
    """Column of ids, int64 where all are integers, else object; raises as :func:`_column`."""
    values = _column(entries, key, where)
    if set(map(type, values)) <= {int} and max(map(abs, values), default=0) < LARGEST_ID:
        return np.array(values, np.int64)
    for row, value in enumerate(values):
        is_number = isinstance(value, int | float) and abs(value) < LARGEST_ID
        if not is_number and not _is_text(value):
            raise ValueError(f"'{key}' of entry {row} of {where} is {value!r}, not an id")
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _texts(entries: Sequence[Any], key: str, where: str) -> tuple[str, ...]:
    """Column of texts; raises ValueError as :func:`_column`, also for what is no text."""
    values = _column(entries, key, where)
    for row, value in enumerate(values):
        if not _is_text(value):
            raise ValueError(f"'{key}' of entry {row} of {where} is {value!r}, not a text")
    return tuple(values)


def _are_numbers(rows: Sequence[Any], length: int) -> bool:
    """Whether all rows are ``length`` plain numbers."""
    try:
        is_long = set(map(len, rows)) <= {length}
        return is_long and set(map(type, chain.from_iterable(rows))) <= {int, float}
    except TypeError:  # a row is a number or None
        return False


def _to_float(value: float) -> float:
    """A number as float64, infinite where it is too large for that."""
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _numbers(rows: Sequence[Any], length: int) -> np.ndarray:
    """Rows of numbers as float64 (len(rows), length), NaN in the rows that are something else."""
    if not _are_numbers(rows, length):
        rows = [row if _are_numbers([row], length) else [np.nan] * length for row in rows]
    try:
        return np.array(rows, np.float64).reshape(-1, length)
    except OverflowError:  # JSON knows integers of any length
        finite = [[_to_float(value) for value in row] for row in rows]
        return np.array(finite, np.float64).reshape(-1, length)


def _sizes(images: Sequence[dict[str, Any]]) -> np.ndarray:
    """Width and height of images in pixels, int64 (N, 2), both 0 where one is missing."""
    sizes = _numbers([(image.get('width'), image.get('height')) for image in images], 2)
    sizes = np.nan_to_num(sizes, posinf=0).clip(0, 2**31).astype(np.int64)
    return sizes * (sizes > 0).all(1, keepdims=True)


def _rotations(found: Sequence[dict[str, Any]]) -> np.ndarray:
    """Degrees by which CVAT says that boxes are turned, float64 (M,); 0 for polygons and masks."""
    attributes = [None if entry.get('segmentation') else entry.get('attributes') for entry in found]
    angles = [item.get('rotation') if isinstance(item, dict) else None for item in attributes]
    numbers = _numbers([(angle or 0,) for angle in angles], 1)[:, 0]
    return np.nan_to_num(numbers, posinf=0, neginf=0)


def find_rows(ids: np.ndarray, among: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Position of each id in a list of ids, the last one where ids repeat.

    Args:
        ids: (M,) ids to look up.
        among: (N,) ids.

    Returns:
        (M,) int64, -1 for an id that is not there.
    """
    among = among.tolist() if isinstance(among, np.ndarray) else among
    rows = {value: row for row, value in enumerate(among)}
    return np.fromiter((rows.get(value, -1) for value in ids.tolist()), np.int64, len(ids))


def build_annotation_table(content: dict[str, Any], path: str) -> AnnotationTable:
    """Turn the content of an annotation file into columns.

    Args:
        content: What the file holds; ``annotations`` may be missing, as in a test set.
        path: The file, for messages.

    Returns:
        The columns; they keep nothing of the content alive but names and ids.

    Raises:
        ValueError: If a list or a key is missing or has a wrong type.
    """
    categories = _entries(content, 'categories', path)
    images = _entries(content, 'images', path)
    found = _entries(content, 'annotations', path) if content.get('annotations', []) != [] else []
    in_categories, in_images, in_annotations = (
        f"'{key}' of {path}" for key in ('categories', 'images', 'annotations')
    )
    category_ids = tuple(_ids(categories, 'id', in_categories).tolist())
    image_ids = _ids(images, 'id', in_images)
    image_of = _ids(found, 'image_id', in_annotations)
    category_of = _ids(found, 'category_id', in_annotations)
    return AnnotationTable(
        path=path,
        category_ids=category_ids,
        category_names=_texts(categories, 'name', in_categories),
        category_parents=tuple(str(entry.get('supercategory') or '') for entry in categories),
        image_ids=image_ids,
        file_names=_texts(images, 'file_name', in_images),
        image_sizes=_sizes(images),
        annotation_ids=_ids(found, 'id', in_annotations),
        annotation_image_ids=image_of,
        annotation_category_ids=category_of,
        image_rows=find_rows(image_of, image_ids),
        category_rows=find_rows(category_of, category_ids),
        boxes=_numbers([entry.get('bbox') for entry in found], 4),
        areas=_numbers([(entry.get('area'),) for entry in found], 1)[:, 0],
        rotations=_rotations(found),
        is_crowd=np.array([bool(entry.get('iscrowd')) for entry in found], bool),
        has_crowd_flag=np.array(['iscrowd' in entry for entry in found], bool),
        is_ignored=np.array([bool(entry.get('ignore')) for entry in found], bool),
    )


def read_annotation_table(
    path: str | Path, backend_args: dict[str, Any] | None = None
) -> AnnotationTable:
    """Read an annotation file into columns.

    Args:
        path: Path or address of the file.
        backend_args: Arguments of MMEngine's file backend.

    Returns:
        The columns.

    Raises:
        FileNotFoundError: If there is no such file; the message lists the ones next to it.
        ValueError: If the file is not JSON or not in COCO format; the message says where.
    """
    return build_annotation_table(load_annotation_content(path, backend_args), str(path))
