"""What can be wrong with a data set, and how findings and object counts read."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import NamedTuple

import numpy as np

from .annotation_table import AnnotationTable

SIZE_LIMITS = (32**2, 96**2)  # COCO's areas between small, medium and large, in square pixels
TOOL = 'check_dataset.py --repair'  # in tools/analysis_tools


class Kind(NamedTuple):
    """A kind of finding: whether it is an error, what it means and what to do about it."""

    is_error: bool
    meaning: str
    remedy: str


KINDS = {
    'missing_image': Kind(
        True,
        'image files that are not there',
        'let --image-dir, or data_root and data_prefix.img of the config, lead to the folder that '
        'file_name starts from',
    ),
    'image_outside': Kind(
        True,
        'image files outside the data root, by .. or an absolute path in file_name',
        'move them below it and write file_name from there; if you know where they come from, '
        'data_check.allow=[image_outside] accepts them',
    ),
    'unreadable_image': Kind(
        True,
        'files that are not readable images',
        f'get these files again, or leave the images out with {TOOL}',
    ),
    'missing_size': Kind(
        True,
        'images without width and height, which CocoDataset needs',
        f'add them; {TOOL} reads them from the files',
    ),
    'size_mismatch': Kind(
        True,
        'width and height differ from those of the file',
        'find out which of the two the boxes were drawn on: boxes of an image that was resized or '
        f'turned later are wrong; {TOOL} corrects what the boxes make certain',
    ),
    'thin_image': Kind(
        True,
        'images so thin that resizing rounds their short side to 0 pixels',
        'cut them into tiles by tools/dataset_converters/tile_coco.py, choose a larger scale in '
        f'the pipeline, or leave them out with {TOOL}',
    ),
    'box_outside_image': Kind(
        True,
        'boxes that leave their image',
        'bbox must be [x, y, width, height] in pixels of the original image; '
        f'{TOOL} clips these boxes',
    ),
    'invalid_box': Kind(
        True,
        'boxes that are not four finite numbers',
        'data_check.allow does not help: CocoDataset stops at missing numbers, and the matching at '
        f'infinite ones; mend them, or drop them with {TOOL}',
    ),
    'boxes_in_shares': Kind(
        True,
        "boxes in shares of the image's sides, from 0 to 1, instead of pixels",
        f'multiply them by width and height; {TOOL} does',
    ),
    'degenerate_box': Kind(
        True,
        'boxes without extent: under 1 px wide or high, or area 0',
        f'CocoDataset drops them silently; mend them, or drop them with {TOOL}',
    ),
    'turned_box': Kind(
        True,
        'boxes that attributes.rotation turns, as CVAT writes it: bbox is the box before',
        'tools/dataset_converters/coco2coco.py writes the boxes around the turned ones',
    ),
    'missing_area': Kind(
        True,
        "annotations without 'area', which CocoDataset needs",
        f'add area in square pixels; {TOOL} writes width x height',
    ),
    'missing_crowd_flag': Kind(
        False,
        "annotations without 'iscrowd', without which CocoMetric stops with a KeyError",
        f'add iscrowd=0; {TOOL} does',
    ),
    'unusable_annotation_id': Kind(
        False,
        'annotations that CocoMetric cannot evaluate: it never counts the id 0 as found and stops '
        'at a text',
        f'number annotations from 1; {TOOL} does',
    ),
    'duplicate_image_id': Kind(
        True,
        'images with an id that another image has',
        'give each image its own id and its annotations the right one: MMDetection keeps only the '
        f'last of these images; {TOOL} merges entries of the same file',
    ),
    'duplicate_file': Kind(
        True,
        'files that are listed more than once',
        f'list each file once, with all its annotations; {TOOL} does',
    ),
    'duplicate_annotation_id': Kind(
        True,
        'annotations with an id that another annotation has',
        f'give each annotation its own id, else training stops; {TOOL} does',
    ),
    'duplicate_category': Kind(
        True,
        'categories with an id or a name that another category has',
        f'list each category once; {TOOL} merges categories of the same name',
    ),
    'unknown_image': Kind(
        True,
        'annotations of an image that is not listed',
        f'MMDetection drops them silently; add the images, or drop them with {TOOL}',
    ),
    'unknown_category': Kind(
        True,
        'annotations of a category that is not listed',
        f'MMDetection drops them silently; add the category, or drop them with {TOOL}',
    ),
    'different_classes': Kind(
        True,
        'the classes of the config are not those of the file, in the order of the file',
        'MMDetection numbers the classes in the order of the file: list in metainfo.classes the '
        'same names in the same order',
    ),
    'different_categories': Kind(
        True,
        'two files list different categories, or list them in another order',
        'MMDetection numbers classes in the order of each file, so they would be mixed up: list '
        f'the same names in the same order; {TOOL} puts the second file in the order of the first',
    ),
    'deep_image': Kind(
        False,
        'images with more than 8 bits a channel, of which the upper 8 are used',
        'nothing to do if they use the whole range; 10 or 12 bits in files of 16 look black, '
        'so stretch them first',
    ),
    'unused_category': Kind(
        False, 'categories without objects', 'remove them, or add images that show them'
    ),
    'duplicate_box': Kind(
        False,
        'boxes that repeat an earlier one of the same image and class',
        'remove the repetitions: each would ask for a detection of its own',
    ),
    'no_objects': Kind(
        False,
        'images without objects',
        'nothing to do if nothing is on them: they teach what is background, unless filter_cfg '
        'leaves them out',
    ),
    'shared_image': Kind(
        False,
        'images that two files share',
        'keep them in one file: a score on images seen in training says little',
    ),
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or worth knowing.

    Attributes:
        kind: Key of :data:`KINDS`.
        is_error: Whether training should not start with it.
        count: How many entries are concerned.
        examples: The first of them, a line each.
        remedy: What to do, a clause without capital or full stop.
    """

    kind: str
    is_error: bool
    count: int
    examples: tuple[str, ...]
    remedy: str


def make_finding(
    kind: str,
    count: int,
    examples: Sequence[str],
    remedy: str | None = None,
    is_error: bool = False,
) -> Finding:
    """Fill in what the kind says.

    Args:
        kind: Key of :data:`KINDS`.
        count: How many entries are concerned.
        examples: Lines that show some of them.
        remedy: What to do in this case; by default what the kind says.
        is_error: Whether it is an error in this case, even if the kind is usually none.

    Returns:
        The finding.
    """
    known = KINDS[kind]
    level = known.is_error or is_error
    return Finding(kind, level, count, tuple(examples), remedy or known.remedy)


def _plural(count: int, noun: str) -> str:
    """``1 error``, ``2 errors``."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


def _describe(finding: Finding, max_examples: int | None) -> str:
    """Several lines about a finding: kind and count, examples, remedy."""
    level = 'ERROR  ' if finding.is_error else 'warning'
    lines = [f'{level} {finding.kind} ({finding.count:,}): {KINDS[finding.kind].meaning}']
    shown = finding.examples[:max_examples]
    lines += [f'          {example}' for example in shown]
    if shown and finding.count > len(shown):
        lines.append(f'          ... and {finding.count - len(shown):,} more')
    remedy = fill(
        finding.remedy,
        width=98,
        initial_indent='        > ',
        subsequent_indent='          ',
        break_long_words=False,
        break_on_hyphens=False,
    )
    return '\n'.join([*lines, remedy])


def describe_findings(findings: Sequence[Finding], max_examples: int | None = 5) -> str:
    """Write findings as a block of text, errors first.

    Args:
        findings: The findings.
        max_examples: Most examples of each; all that the findings have if None.

    Returns:
        The text, without a newline at its end.
    """
    if not findings:
        return 'no problems found'
    ordered = sorted(findings, key=lambda finding: not finding.is_error)
    num_errors = sum(finding.is_error for finding in findings)
    levels = (('error', num_errors), ('warning', len(findings) - num_errors))
    head = ', '.join(f'{_plural(count, "kind")} of {name}' for name, count in levels if count)
    return '\n'.join([head, *(_describe(finding, max_examples) for finding in ordered)])


def _object_counts(table: AnnotationTable) -> np.ndarray:
    """Count objects, images, small, medium, large and crowds of each class.

    Args:
        table: N images, M annotations, K classes.

    Returns:
        (K + 1, 6) int64; the last row is the total.
    """
    known = (table.category_rows >= 0) & (table.image_rows >= 0) & ~table.is_ignored
    is_object = known & ~table.is_crowd
    sides = np.nan_to_num(table.boxes[:, 2:])
    with np.errstate(over='ignore'):
        areas = np.where(np.isnan(table.areas), sides.prod(1), table.areas)
    size_class = np.digitize(areas, SIZE_LIMITS)
    num_classes, num_images = len(table.category_names), len(table.file_names)

    def count(mask: np.ndarray) -> np.ndarray:
        """Number of each class among the annotations of a mask (M,); (K,)."""
        return np.bincount(table.category_rows[mask], minlength=num_classes)

    pairs = np.unique(table.category_rows[is_object] * num_images + table.image_rows[is_object])
    columns = [
        count(is_object),
        np.bincount(pairs // num_images, minlength=num_classes),
        *(count(is_object & (size_class == size)) for size in range(3)),
        count(known & table.is_crowd),
    ]
    rows = np.stack(columns, 1)
    total = rows.sum(0)
    total[1] = len(np.unique(pairs % num_images))
    return np.concatenate([rows, total[None]])


def object_table(table: AnnotationTable) -> str:
    """Write how many objects each class has, and of which size, as an aligned table.

    Objects are neither crowds nor marked ``ignore``. Small, medium and large are COCO's, by area
    (width times height where there is none), at the original size of the image.

    Args:
        table: The annotations.

    Returns:
        The text, a line for each class and for the total.
    """
    header = ('class', 'objects', 'images', 'share', 'small', 'medium', 'large', 'crowd')
    counts = _object_counts(table)
    all_objects = max(int(counts[-1, 0]), 1)
    rows: list[tuple[str, ...]] = [header]
    for name, row in zip((*table.category_names, 'total'), counts.tolist(), strict=True):
        numbers = [f'{number:,}' for number in row]
        share = f'{row[0] / all_objects:.1%}'
        rows.append((name, *numbers[:2], share, *numbers[2:]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return '\n'.join(
        '  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
