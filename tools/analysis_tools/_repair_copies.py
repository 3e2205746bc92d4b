"""Write the repaired copies of ``check_dataset.py``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _check_results import CheckResult, FileResult, show_progress, write_atomic

from mmdet_salience.datasets.checks.annotation_file import load_annotation_content
from mmdet_salience.datasets.checks.annotation_source import AnnotationSource
from mmdet_salience.datasets.checks.annotation_table import build_annotation_table
from mmdet_salience.datasets.checks.category_check import find_parents
from mmdet_salience.datasets.checks.dataset_check import check_classes, check_pair
from mmdet_salience.datasets.checks.dataset_repair import ACTIONS, RepairResult, repair_annotations

Categories = list[dict[str, Any]]


def choose_categories(
    first: FileResult, second: FileResult, reference: Categories
) -> Categories | None:
    """Choose the categories that a copy should get.

    Args:
        first: The file that ``reference`` comes from.
        second: The file to repair, perhaps the same.
        reference: Categories.

    Returns:
        The reference, in the order of the config's classes where that has them all; None if the
        file has the right ones already.
    """
    classes = first.source.classes
    by_name = {category['name']: category for category in reference}
    if classes is not None and set(classes) <= by_name.keys():
        others = [category for category in reference if category['name'] not in classes]
        reference = [*(by_name[name] for name in classes), *others]
    differs = [f.kind for f in check_pair(first.table, second.table, classes=classes)]
    contradicts = classes is not None and check_classes(second.table, classes)
    return reference if contradicts or 'different_categories' in differs else None


def has_stated_parent(file: FileResult) -> bool:
    """Whether the config states the category that is only the parent of the others as a class."""
    names = np.array(file.table.category_names)[find_parents(file.table)]
    return bool(set(names.tolist()) & set(file.source.classes or ()))


def describe_repair(result: RepairResult, path: Path) -> str:
    """Write what was done to a copy and what is left to a person."""
    lines = [f'repaired copy: {path}']
    lines += [f'  {ACTIONS[action]}: {count:,}' for action, count in result.actions.items()]
    lines += ['  nothing to repair'] * (not result.actions)
    if result.left:
        lines.append('left to you:')
        lines += [f'  {line}' for line in result.left]
    return '\n'.join(lines)


def repair_files(
    result: CheckResult, outputs: Sequence[Path], categories_from: str | None, pixels: bool = False
) -> list[AnnotationSource]:
    """Write repaired copies of the files that could be read.

    Args:
        result: Results of the check.
        outputs: A path for the copy of each file.
        categories_from: Annotation file whose categories a single copy gets.
        pixels: Whether to decode the images.

    Returns:
        The copies.

    Raises:
        OSError: If a copy cannot be written.
        ValueError: If nothing would be left of a file.
    """
    copies = []
    first, reference = None, None
    if categories_from is not None:
        content = load_annotation_content(categories_from)
        table = build_annotation_table(content, categories_from)
        first = FileResult(AnnotationSource('', categories_from), table)
        reference = content['categories']
    for file, path in zip(result.files, outputs, strict=True):
        if file.table is None:
            continue
        source = file.source
        content = load_annotation_content(source.ann_file, source.backend_args)
        first, reference = first or file, reference or content['categories']
        categories = choose_categories(first, file, reference)
        if categories is None and has_stated_parent(file):
            categories = content['categories']
        repaired = repair_annotations(
            content,
            source.image_root,
            categories,
            progress=show_progress,
            pixels=pixels,
            data_root=source.data_root,
            max_ratio=source.max_ratio,
        )
        if file is first:
            reference = repaired.content['categories']
        write_atomic(path, json.dumps(repaired.content))
        print(f'\n{describe_repair(repaired, path)}')
        copies.append(source._replace(ann_file=str(path), backend_args=None))
    return copies
