"""Check of COCO annotations: what would stop training, or spoil it without a word.

Shapes: N images, M annotations, K categories. Boxes are ``(x, y, width, height)`` in pixels.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..image_header import Progress, explain_unreadable, read_headers
from .annotation_table import AnnotationTable, find_rows
from .box_checks import (
    find_degenerate,
    find_invalid,
    find_overhang,
    find_repeated_boxes,
    find_repeats,
    find_shares,
    find_turned,
    find_unusable_ids,
    has_other_shares,
    looks_like_corners,
)
from .category_check import check_classes, check_pair, find_parents
from .dataset_findings import KINDS, TOOL, Finding, describe_findings, make_finding, object_table
from .image_files import find_existing, find_outside
from .missing_images import explain_missing

__all__ = [
    'KINDS',
    'Finding',
    'check_annotations',
    'check_classes',
    'check_pair',
    'describe_findings',
    'object_table',
]


class _Reporter:
    """Collects findings about a table.

    Args:
        table: The annotations.
        max_examples: Most examples of each finding, None for all.
    """

    def __init__(self, table: AnnotationTable, max_examples: int | None) -> None:
        self.table = table
        self.max_examples = max_examples
        self.findings: list[Finding] = []

    def add(
        self,
        kind: str,
        rows: np.ndarray,
        describe: Callable[[int], str],
        remedy: str | None = None,
        is_error: bool = False,
    ) -> None:
        """Add a finding, unless there are no rows.

        Args:
            kind: Kind of the finding.
            rows: Positions of what is concerned, or a mask of them.
            describe: Turns a position into an example.
            remedy: What to do, if not what the kind says.
            is_error: Whether it is an error here even if the kind is usually none.
        """
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if len(rows):
            examples = [describe(int(row)) for row in rows[: self.max_examples]]
            self.findings.append(make_finding(kind, len(rows), examples, remedy, is_error))

    def describe_image(self, row: int) -> str:
        """File and id of an image."""
        return f'{self.table.file_names[row]} (id {self.table.image_ids[row]})'

    def describe_size(self, row: int) -> str:
        """File, id and size of an image."""
        return '{}: {}x{}'.format(self.describe_image(row), *self.table.image_sizes[row])

    def describe_category(self, row: int) -> str:
        """Name and id of a category."""
        return f'{self.table.category_names[row]} (id {self.table.category_ids[row]})'

    def describe_annotation(self, row: int) -> str:
        """Id, image and class of an annotation."""
        table = self.table
        image, category = table.image_rows[row], table.category_rows[row]
        where = f'image id {table.annotation_image_ids[row]}, which is not listed'
        where = self.describe_image(image) if image >= 0 else where
        what = f'category id {table.annotation_category_ids[row]}, which is not listed'
        what = table.category_names[category] if category >= 0 else what
        return f'annotation {table.annotation_ids[row]} of {where}: {what}'

    def describe_box(self, row: int) -> str:
        """An annotation with its box and area, and the size of its image."""
        numbers = ', '.join(f'{number:.10g}' for number in self.table.boxes[row])
        area = f'area {self.table.areas[row]:.10g}'
        image = self.table.image_rows[row]
        size = '{}x{}'.format(*self.table.image_sizes[image]) if image >= 0 else '?'
        return f'{self.describe_annotation(row)} [{numbers}], {area}, image {size}'


def _check_lists(report: _Reporter, max_ratio: float) -> None:
    """Look for repeated entries and for images without a size, or too thin ones."""
    table = report.table
    repeats = [find_repeats(table.category_ids), find_repeats(table.category_names)]
    paths = [os.path.normpath(name) for name in table.file_names]
    image = report.describe_image
    report.add('duplicate_category', np.unique(np.concatenate(repeats)), report.describe_category)
    report.add('duplicate_image_id', find_repeats(table.image_ids.tolist()), image)
    report.add('duplicate_file', find_repeats(paths), image)
    report.add('missing_size', table.image_sizes.min(1) < 1, image)
    is_thin = table.image_sizes.max(1) >= max_ratio * table.image_sizes.min(1).clip(1)
    report.add('thin_image', is_thin, report.describe_size)


def _check_references(report: _Reporter, evaluated: bool) -> None:
    """Look for annotations that lead nowhere or lack what MMDetection needs."""
    table, annotation = report.table, report.describe_annotation
    ids = table.annotation_ids.tolist()
    report.add('duplicate_annotation_id', find_repeats(ids), annotation)
    report.add('unknown_image', table.image_rows < 0, annotation)
    report.add('unknown_category', table.category_rows < 0, annotation)
    report.add('missing_area', np.isnan(table.areas) & ~table.is_ignored, annotation)
    report.add('unusable_annotation_id', find_unusable_ids(table), annotation)
    report.add('missing_crowd_flag', ~table.has_crowd_flag, annotation, is_error=evaluated)


def _shares_remedy(table: AnnotationTable) -> str | None:
    """What to do about boxes in shares, None for the usual advice."""
    if not has_other_shares(table):
        return None
    return (
        'some would leave their image as [x, y, width, height], so they may be centres and sizes, '
        'or two corners: find out which, and convert them to pixels'
    )


def _check_boxes(report: _Reporter, tolerance: float) -> None:
    """Look for boxes that are dropped, leave the image or repeat another one."""
    table = report.table
    is_degenerate, is_invalid = find_degenerate(table), find_invalid(table)
    is_outside = ~is_degenerate & (find_overhang(table) > tolerance)
    in_shares = find_shares(table)
    is_degenerate &= ~in_shares
    remedy = None
    if looks_like_corners(table, tolerance):
        remedy = (
            'all boxes seem to be two corners [x1, y1, x2, y2]; '
            'COCO wants [x, y, width, height]: convert them'
        )
    report.add('boxes_in_shares', in_shares, report.describe_box, _shares_remedy(table))
    report.add('invalid_box', is_invalid, report.describe_box)
    report.add('degenerate_box', is_degenerate & ~is_invalid, report.describe_box)
    report.add('box_outside_image', is_outside, report.describe_box, remedy)
    report.add('turned_box', find_turned(table), report.describe_box)
    report.add('duplicate_box', find_repeated_boxes(table), report.describe_box)


def _parent_remedy(table: AnnotationTable) -> str | None:
    """What to do about a category that is only the parent of others, None if there is none."""
    for row in np.flatnonzero(find_parents(table)):
        return (
            f'{table.category_names[row]} (id 0) is only the parent of the other categories, as '
            f'Roboflow writes it, and gives the model a class too many: {TOOL} drops it; remove '
            'other ones, or add images that show them'
        )
    return None


def _check_usage(report: _Reporter) -> None:
    """Look for categories and images without annotations."""
    table = report.table
    num_images, num_classes = len(table.file_names), len(table.category_names)
    images, classes = table.image_rows, table.category_rows
    used_classes = np.bincount(classes[classes >= 0], minlength=num_classes) > 0
    used_images = np.bincount(images[images >= 0], minlength=num_images) > 0
    is_last = find_rows(table.image_ids, table.image_ids) == np.arange(num_images)
    report.add('unused_category', ~used_classes, report.describe_category, _parent_remedy(table))
    report.add('no_objects', ~used_images & is_last, report.describe_image)


def _check_presence(report: _Reporter, image_root: str | Path) -> np.ndarray:
    """Look for the image files.

    Args:
        report: Takes the findings.
        image_root: Folder of the images.

    Returns:
        (N,) bool, which of them are there.
    """
    names = report.table.file_names
    exists = find_existing(image_root, names)
    missing = [names[row] for row in np.flatnonzero(~exists)]
    remedy = explain_missing(image_root, missing) if missing else None
    report.add('missing_image', ~exists, lambda row: os.path.join(image_root, names[row]), remedy)
    return exists


def _check_headers(
    report: _Reporter,
    image_root: str | Path,
    rows: np.ndarray,
    progress: Progress | None,
    pixels: bool,
) -> None:
    """Look for unreadable files and compare sizes.

    Args:
        report: Takes the findings.
        image_root: Folder of the images.
        rows: Positions of the images to look at.
        progress: Shows a progress bar, if given.
        pixels: Whether to decode the images.
    """
    table = report.table
    paths = {row: os.path.join(image_root, table.file_names[row]) for row in rows.tolist()}
    found = read_headers(list(paths.values()), progress, pixels=pixels)
    headers = dict(zip(paths, found, strict=True))
    readable = {row: header for row, header in headers.items() if header is not None}
    unreadable = [row for row in headers if row not in readable]
    wrong = [
        row
        for row, header in readable.items()
        if table.image_sizes[row].all() and tuple(table.image_sizes[row]) != header.size
    ]

    def describe(row: int) -> str:
        """An image with both its sizes."""
        declared = '{}x{}'.format(*table.image_sizes[row])
        size = '{}x{}'.format(*readable[row].size)
        turned = ' (turned by its EXIF tag)' if readable[row].is_turned else ''
        return f'{report.describe_image(row)}: {declared}, but the file has {size}{turned}'

    def explain(row: int) -> str:
        """An image with what is wrong with its file."""
        return f'{report.describe_image(row)}: {explain_unreadable(paths[row])}'

    deep = [row for row, header in readable.items() if header.is_deep]
    report.add('unreadable_image', np.array(unreadable, int), explain)
    report.add('size_mismatch', np.array(wrong, int), describe)
    report.add('deep_image', np.array(deep, int), report.describe_image)


def _check_files(
    report: _Reporter,
    image_root: str | Path,
    max_headers: int | None,
    progress: Progress | None,
    pixels: bool,
) -> None:
    """Look for the image files and compare their sizes.

    Args:
        report: Takes the findings.
        image_root: Folder of the images.
        max_headers: Most headers to read, evenly spaced over the images; all if None.
        progress: Shows a progress bar, if given.
        pixels: Whether to decode the images.
    """
    rows = np.flatnonzero(_check_presence(report, image_root))
    if max_headers is not None and max_headers < len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, max_headers).round().astype(int)]
    _check_headers(report, image_root, rows, progress, pixels)


def check_annotations(
    table: AnnotationTable,
    image_root: str | Path | None,
    max_headers: int | None = None,
    *,
    tolerance: float = 1,
    max_examples: int | None = 20,
    evaluated: bool = False,
    progress: Progress | None = None,
    pixels: bool = False,
    data_root: str | Path | None = None,
    max_ratio: float = math.inf,
) -> tuple[Finding, ...]:
    """Check an annotation file and its images.

    Args:
        table: The annotations.
        image_root: Folder that the file names start from; None for no look at the files.
        max_headers: Most image headers to read, evenly spaced over the images; all if None.
        tolerance: Pixels by which a box may leave its image.
        max_examples: Most examples of each finding, all if None.
        evaluated: Whether CocoMetric will read the file, which then needs ``iscrowd``.
        progress: Shows a progress bar while headers are read, such as ``tqdm`` does, if given.
        pixels: Whether to decode the images too, which finds damage beyond their headers.
        data_root: Folder that holds all data; the image folder by default.
        max_ratio: Ratio of long to short side from which on an image is too thin, see
            :func:`largest_ratio`.

    Returns:
        The findings.
    """
    report = _Reporter(table, max_examples)
    is_outside = find_outside(image_root, table.file_names, data_root)
    report.add('image_outside', is_outside, report.describe_image)
    if image_root is not None:
        _check_files(report, image_root, max_headers, progress, pixels)
    _check_lists(report, max_ratio)
    _check_references(report, evaluated)
    _check_boxes(report, tolerance)
    _check_usage(report)
    return tuple(report.findings)
