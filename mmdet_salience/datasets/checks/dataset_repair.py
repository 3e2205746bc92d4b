"""Repair of COCO annotations: what a rule can decide is done and counted, the rest is left.

Shapes: N images, M annotations. Boxes are ``(x, y, width, height)`` in pixels.
"""

import math
from collections.abc import Sequence, Set
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..image_header import Progress
from .annotation_table import AnnotationTable, Id
from .box_checks import (
    find_degenerate,
    find_overhang,
    find_repeats,
    find_unusable_ids,
    looks_like_corners,
)
from .category_check import find_parents
from .image_files import find_outside
from .image_repair import drop_thin, merge_images, repair_files
from .repair_draft import ACTIONS, Draft, start_draft
from .share_repair import area_of, settle_shares

__all__ = ['ACTIONS', 'RepairResult', 'repair_annotations']


class RepairResult(NamedTuple):
    """A repaired copy.

    Attributes:
        content: What a repaired annotation file holds.
        actions: How often each of :data:`ACTIONS` was done, without those that were not needed.
        left: What a person has to decide, a line each.
    """

    content: dict[str, Any]
    actions: dict[str, int]
    left: tuple[str, ...]


def _drop_unknown(draft: Draft) -> None:
    """Drop annotations of images and categories that are not listed."""
    table = draft.make_table()
    has_no_image, has_no_category = table.image_rows < 0, table.category_rows < 0
    draft.count('drop_unknown_image', int(has_no_image.sum()))
    draft.count('drop_unknown_category', int((has_no_category & ~has_no_image).sum()))
    draft.drop('annotations', has_no_image | has_no_category)


def _merge_categories(draft: Draft) -> bool:
    """Merge categories of the same name.

    Args:
        draft: Changed in place.

    Returns:
        False if an id has several names, which is left to a person.
    """
    names: dict[Id, str] = {}
    for category in draft.categories:
        if names.setdefault(category['id'], category['name']) != category['name']:
            draft.left.append(
                f'category id {category["id"]} stands for {names[category["id"]]} and '
                f'{category["name"]}; decide which of them its annotations are'
            )
            return False
    ids: dict[str, Id] = {}
    new_ids = {c['id']: ids.setdefault(c['name'], c['id']) for c in draft.categories}
    repeats = set(find_repeats(c['name'] for c in draft.categories).tolist())
    kept = [c for row, c in enumerate(draft.categories) if row not in repeats]
    draft.content['categories'] = kept
    draft.count('merge_category', len(repeats))
    draft.map_annotations('category_id', new_ids.__getitem__)
    return True


def _drop_parent(draft: Draft, kept: Sequence[str]) -> None:
    """Drop the category that is only the parent of the others, unless its name is kept."""
    is_parent = find_parents(draft.make_table())
    is_dropped = is_parent & np.array([c['name'] not in kept for c in draft.categories])
    if not is_dropped.all():
        draft.count('drop_parent_category', draft.drop('categories', is_dropped))


def _leave_outside(draft: Draft, image_root: str | Path | None, data_root: str | None) -> None:
    """Leave images outside the data root to a person, with the first of their names."""
    names = [image['file_name'] for image in draft.images]
    rows = np.flatnonzero(find_outside(image_root, names, data_root))
    if len(rows):
        draft.left.append(
            f'{len(rows):,} images lie outside the data root, such as {names[rows[0]]}; decide '
            'whether they belong to the data: they were kept'
        )


def _match_categories(draft: Draft, reference: Sequence[dict[str, Any]]) -> None:
    """Give the draft the categories of another file, by their names.

    Args:
        draft: Changed in place, unless it has objects of a category that the reference lacks.
        reference: Categories of the other file.
    """
    ids = {category['name']: category['id'] for category in reference}
    used = {annotation['category_id'] for annotation in draft.annotations}
    extra = [c['name'] for c in draft.categories if c['name'] not in ids and c['id'] in used]
    if extra:
        draft.left.append(
            f'the reference has no category {", ".join(extra)}, of which there are objects; the '
            'categories were not changed'
        )
        return
    own, wanted = ([(c['id'], c['name']) for c in part] for part in (draft.categories, reference))
    changed = sum(old != new for old, new in zip_longest(own, wanted))
    if not changed:
        return
    new_ids = {c['id']: ids[c['name']] for c in draft.categories if c['name'] in ids}
    draft.map_annotations('category_id', new_ids.__getitem__)
    draft.content['categories'] = deepcopy(list(reference))
    draft.count('match_category', changed)


def _clip_boxes(table: AnnotationTable) -> np.ndarray:
    """Clip all boxes to their images.

    Args:
        table: The annotations; each has an image.

    Returns:
        (M, 4) float64; a box outside its image has a width or height of 0.
    """
    sizes = table.image_sizes[table.image_rows]
    starts = table.boxes[:, :2].clip(0, sizes)
    ends = (table.boxes[:, :2] + table.boxes[:, 2:]).clip(0, sizes)
    return np.concatenate([starts, ends - starts], 1)


def _has_box_area(annotation: dict[str, Any], width: float, height: float) -> bool:
    """Whether the area of an annotation is that of its box, and not that of a segmentation."""
    is_equal = abs(area_of(annotation) - width * height) <= 1 + 0.01 * width * height
    return is_equal and not annotation.get('segmentation')


def _clip_outside(draft: Draft, undecided: Set[Id], tolerance: float) -> None:
    """Clip boxes that leave their image, and drop those of which less than 1 px is in it.

    Args:
        draft: Changed in place.
        undecided: Ids of images whose size is not certain; their boxes stay.
        tolerance: Boxes that leave the image by at most this many pixels stay.
    """
    table = draft.make_table()
    is_decided = np.array([i not in undecided for i in table.annotation_image_ids.tolist()], bool)
    is_outside = (find_overhang(table) > tolerance) & is_decided
    with np.errstate(invalid='ignore'):  # ignored annotations may have any box
        clipped = _clip_boxes(table)
    is_lost = is_outside & (clipped[:, 2:] < 1).any(1)
    for row in np.flatnonzero(is_outside & ~is_lost):
        annotation = draft.annotations[row]
        has_box_area = _has_box_area(annotation, *table.boxes[row, 2:].tolist())
        numbers = clipped[row].tolist()
        annotation['bbox'] = [int(n) if n.is_integer() else n for n in numbers]
        if has_box_area:
            annotation['area'] = annotation['bbox'][2] * annotation['bbox'][3]
    draft.count('clip_box', int((is_outside & ~is_lost).sum()))
    draft.count('drop_outside_box', draft.drop('annotations', is_lost))


def _fill_fields(draft: Draft) -> None:
    """Write areas and crowd flags that are missing."""
    for annotation in draft.annotations:
        if not area_of(annotation) > 0 and not annotation.get('ignore'):
            annotation['area'] = annotation['bbox'][2] * annotation['bbox'][3]
            draft.count('fill_area', 1)
        if 'iscrowd' not in annotation:
            annotation['iscrowd'] = 0
            draft.count('fill_crowd_flag', 1)


def _repair_boxes(draft: Draft, undecided: Set[Id], tolerance: float) -> None:
    """Drop, clip and complete boxes; arguments as in :func:`_clip_outside`."""
    if not settle_shares(draft):
        return
    table = draft.make_table()
    if looks_like_corners(table, tolerance):
        draft.left.append(
            'all boxes seem to be two corners [x1, y1, x2, y2] instead of [x, y, width, height]; '
            'convert them first: no box was changed'
        )
        return
    has_no_extent = find_degenerate(table._replace(areas=np.ones(len(table.areas))))
    draft.count('drop_degenerate_box', draft.drop('annotations', has_no_extent))
    _clip_outside(draft, undecided, tolerance)
    _fill_fields(draft)


def _renumber(draft: Draft) -> None:
    """Give annotations whose id is repeated or unusable ids above all others."""
    table = draft.make_table()
    ids = table.annotation_ids.tolist()
    rows = {*find_repeats(ids).tolist(), *np.flatnonzero(find_unusable_ids(table)).tolist()}
    start = max((int(value) for value in ids if not isinstance(value, str)), default=0) + 1
    for new_id, row in enumerate(sorted(rows), max(start, 1)):
        draft.annotations[row]['id'] = new_id
    draft.count('renumber_annotation', len(rows))


def repair_annotations(
    content: dict[str, Any],
    image_root: str | Path | None = None,
    categories: Sequence[dict[str, Any]] | None = None,
    *,
    tolerance: float = 1,
    progress: Progress | None = None,
    pixels: bool = False,
    data_root: str | None = None,
    max_ratio: float = math.inf,
) -> RepairResult:
    """Repair annotations as far as rules can decide.

    Further keys of the content and of its entries stay as they are.

    Args:
        content: Content of an annotation file; it is not changed.
        image_root: Folder of the images; None for no look at the files.
        categories: Categories of a reference file, such as that of the training set; the copy gets
            them in their order and with their ids.
        tolerance: Pixels by which a box may leave its image.
        progress: Shows a progress bar while headers are read, such as ``tqdm`` does, if given.
        pixels: Whether to decode the images, so that those with damaged pixels are dropped too.
        data_root: Folder that holds all data; the image folder by default.
        max_ratio: Ratio of long to short side from which on an image is too thin and dropped, see
            :func:`largest_ratio`.

    Returns:
        The repaired copy, what was done, and what a person has to decide.

    Raises:
        ValueError: If the content is not in COCO format, or no image would be left.
    """
    draft = start_draft(content)
    _drop_unknown(draft)
    _leave_outside(draft, image_root, data_root)
    if _merge_categories(draft):
        _drop_parent(draft, [category['name'] for category in categories or ()])
        if categories is not None:
            _match_categories(draft, categories)
    undecided: set[Id] = set()
    if image_root is not None:
        undecided = repair_files(draft, image_root, tolerance, progress, pixels)
    drop_thin(draft, max_ratio)
    undecided |= merge_images(draft)
    _repair_boxes(draft, undecided, tolerance)
    _renumber(draft)
    return RepairResult(draft.content, dict(draft.actions), tuple(draft.left))
