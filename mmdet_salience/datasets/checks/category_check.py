"""Do files, and a config, agree about the classes and their order?

MMDetection numbers classes in the order in which a file lists its categories, whatever order
``metainfo`` has. Two files that list the same categories differently give the same number to
different classes, and nothing complains.
"""

import os
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from .annotation_table import AnnotationTable
from .dataset_findings import Finding, make_finding


def find_parents(table: AnnotationTable) -> np.ndarray:
    """Find the category that Roboflow writes first: id 0, no objects, parent of the others.

    Args:
        table: The annotations.

    Returns:
        (K,) bool.
    """
    is_used = np.bincount(table.category_rows[table.category_rows >= 0], minlength=1)
    return np.array(
        [
            category_id == 0 and name in table.category_parents and not is_used[row : row + 1].any()
            for row, (category_id, name) in enumerate(
                zip(table.category_ids, table.category_names, strict=True)
            )
        ],
        bool,
    )


def _used_names(table: AnnotationTable, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the categories that CocoDataset uses, in its order; all without ``classes``."""
    return tuple(name for name in table.category_names if classes is None or name in classes)


def _listing(title: str, names: Sequence[str], most: int = 40) -> str:
    """A line that lists names."""
    more = f', ... {len(names) - most} more' if len(names) > most else ''
    return f'{title}: {", ".join(names[:most]) or "none"}{more}'


def describe_difference(lists: Sequence[Sequence[str]], titles: Sequence[str]) -> list[str]:
    """Show two lists of names and how they differ: what only one has, or where the order does.

    Args:
        lists: The two lists, which are not equal.
        titles: How to call them.

    Returns:
        Lines with the lists, and one or two with the difference.
    """
    lines = [_listing(*pair) for pair in zip(titles, lists, strict=True)]
    return lines + _differences(lists, titles)


def _differences(lists: Sequence[Sequence[str]], titles: Sequence[str]) -> list[str]:
    """Say how two lists of names differ, for :func:`describe_difference`."""
    alone = [[n for n in lists[i] if n not in lists[1 - i]] for i in (0, 1)]
    if any(alone):
        pairs = zip(titles, alone, strict=True)
        return [_listing(f'only in {title}', names) for title, names in pairs if names]
    place, pair = next(
        (i, pair)
        for i, pair in enumerate(zip_longest(*lists, fillvalue='none'))
        if len({*pair}) > 1
    )
    return [
        f'first difference: class {place} is {pair[0]} in {titles[0]}, {pair[1]} in {titles[1]}'
    ]


def _classes_remedy(table: AnnotationTable, classes: Sequence[str]) -> str | None:
    """What to do about classes that are not those of the file, None for the usual advice."""
    if not _used_names(table, classes):
        return (
            'none of the classes is in the file, so every object would be dropped silently: set '
            f'metainfo=dict(classes={table.category_names[:40]}) in the dataset, and num_classes'
        )
    missing = [name for name in classes if name not in table.category_names]
    if missing:
        return (
            'classes after the ones that the file lacks would get the numbers of their '
            'neighbours: list them in the file too, without objects, or leave them out of metainfo'
        )
    return None


def check_classes(table: AnnotationTable, classes: Sequence[str]) -> tuple[Finding, ...]:
    """Compare the classes of a dataset's ``metainfo`` with the categories of its file.

    A file may have further categories; CocoDataset leaves them out.

    Args:
        table: The annotations.
        classes: ``metainfo['classes']`` of the dataset.

    Returns:
        An error ``different_classes``, or nothing.
    """
    used = _used_names(table, classes)
    if used == tuple(classes):
        return ()
    examples = [_listing('the config', classes), _listing('the file', table.category_names)]
    examples += _differences((classes, used), ('the config', 'the file'))
    return (make_finding('different_classes', 1, examples, _classes_remedy(table, classes)),)


def _image_paths(table: AnnotationTable, image_root: str | Path | None) -> set[str]:
    """Normal form of the paths of the images."""
    return {os.path.normpath(os.path.join(image_root or '', name)) for name in table.file_names}


def check_pair(
    train: AnnotationTable,
    val: AnnotationTable,
    *,
    names: tuple[str, str] = ('train', 'val'),
    image_roots: tuple[str | Path | None, str | Path | None] = (None, None),
    classes: Sequence[str] | None = None,
    max_examples: int | None = 20,
) -> tuple[Finding, ...]:
    """Check that two files fit together.

    Args:
        train: Annotations to train on.
        val: Annotations to evaluate on.
        names: How to call the two.
        image_roots: Folders of their images, so that files of the same name in different folders
            count as different images.
        classes: ``metainfo['classes']``, if other categories do not matter.
        max_examples: Most examples of shared images, all if None.

    Returns:
        An error ``different_categories`` and a warning ``shared_image`` where they apply.
    """
    findings = []
    lists = [_used_names(table, classes) for table in (train, val)]
    if lists[0] != lists[1]:
        examples = describe_difference(lists, names)
        findings.append(make_finding('different_categories', 1, examples))
    roots = (None, None) if None in image_roots else image_roots
    shared = sorted(_image_paths(train, roots[0]) & _image_paths(val, roots[1]))
    if shared:
        findings.append(make_finding('shared_image', len(shared), shared[:max_examples]))
    return tuple(findings)
