"""Run the checks of ``check_dataset.py`` and write down what they found."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from mmdet_salience.datasets.checks.annotation_source import AnnotationSource
from mmdet_salience.datasets.checks.annotation_table import AnnotationTable, read_annotation_table
from mmdet_salience.datasets.checks.dataset_check import (
    Finding,
    check_annotations,
    check_classes,
    check_pair,
    describe_findings,
    object_table,
)

REPORT_START = '{\n  "report": "check_dataset"'


class FileResult(NamedTuple):
    """A checked file; ``table`` is None and ``error`` says why where it could not be read."""

    source: AnnotationSource
    table: AnnotationTable | None
    findings: tuple[Finding, ...] = ()
    error: str = ''


class PairResult(NamedTuple):
    """Two checked files, by their names."""

    names: tuple[str, str]
    findings: tuple[Finding, ...]


class CheckResult(NamedTuple):
    """Everything that was checked."""

    files: list[FileResult]
    pairs: list[PairResult]

    @property
    def num_errors(self) -> int:
        """Kinds of errors over all files and pairs, and files that could not be read."""
        findings = [f for result in (*self.files, *self.pairs) for f in result.findings]
        return sum(f.is_error for f in findings) + sum(bool(file.error) for file in self.files)


def show_progress(items: Iterable[Any], total: int) -> Iterable[Any]:
    """Pass items on and show a bar, if this is a terminal."""
    return tqdm(items, 'image files', total, leave=False, unit='file', disable=None)


def check_file(
    source: AnnotationSource, max_examples: int | None, pixels: bool = False
) -> FileResult:
    """Check an annotation file.

    Args:
        source: The file, its images and classes.
        max_examples: Most examples of each finding, all if None.
        pixels: Whether to decode the images.

    Returns:
        The result, also where the file cannot be read.
    """
    try:
        table = read_annotation_table(source.ann_file, source.backend_args)
    except (OSError, ValueError) as error:
        return FileResult(source, None, error=str(error))
    findings = check_annotations(
        table,
        source.image_root,
        max_examples=max_examples,
        evaluated=source.is_evaluated,
        progress=show_progress,
        pixels=pixels,
        data_root=source.data_root,
        max_ratio=source.max_ratio,
    )
    if source.classes is not None:
        findings += check_classes(table, source.classes)
    return FileResult(source, table, findings)


def compare_files(first: FileResult, second: FileResult, max_examples: int | None) -> PairResult:
    """Check whether two files fit together.

    Args:
        first: A file that was read.
        second: Another one.
        max_examples: Most examples of each finding, all if None.

    Returns:
        The result.
    """
    names = (first.source.name, second.source.name)
    findings = check_pair(
        first.table,
        second.table,
        names=names,
        image_roots=(first.source.image_root, second.source.image_root),
        classes=first.source.classes,
        max_examples=max_examples,
    )
    return PairResult(names, findings)


def check_sources(
    sources: Sequence[AnnotationSource], max_examples: int | None, pixels: bool = False
) -> CheckResult:
    """Check annotation files, and whether they fit together.

    Args:
        sources: The files.
        max_examples: Most examples of each finding, all if None.
        pixels: Whether to decode the images.

    Returns:
        The results, in this order.
    """
    files = [check_file(source, max_examples, pixels) for source in sources]
    read = [file for file in files if file.table is not None]
    pairs = [compare_files(*pair, max_examples) for pair in combinations(read, 2)]
    return CheckResult(files, pairs)


def describe_file(result: FileResult, max_examples: int | None) -> str:
    """Write what a file holds and what is wrong with it.

    Args:
        result: The result of its check.
        max_examples: Most examples of each finding, all if None.

    Returns:
        Several lines.
    """
    source, table = result.source, result.table
    title = f'{source.name}: {source.ann_file}' if source.name else source.ann_file
    lines = [title, '=' * min(len(title), 100)]
    if table is None:
        return '\n'.join([*lines, f'ERROR   {result.error}'])
    counts = (len(table.file_names), len(table.boxes), len(table.category_names))
    lines.append('{:,} images, {:,} annotations, {:,} categories'.format(*counts))
    if table.is_ignored.any():
        lines.append(f'{table.is_ignored.sum():,} annotations are marked ignore and not counted')
    where = f'in {source.image_root or os.curdir}'
    if source.image_root is None:
        where = 'not looked at; name their folder with --image-dir'
    lines += [f'images {where}', '', object_table(table), '']
    return '\n'.join([*lines, describe_findings(result.findings, max_examples)])


def describe_result(result: CheckResult, max_examples: int | None) -> str:
    """Write everything that was checked, a block for each file and pair.

    Args:
        result: The results.
        max_examples: Most examples of each finding, all if None.

    Returns:
        The text.
    """
    blocks = [describe_file(file, max_examples) for file in result.files]
    for pair in result.pairs:
        title = '{} and {}'.format(*pair.names)
        blocks.append(f'{title}: {describe_findings(pair.findings, max_examples)}')
    return '\n\n'.join(blocks)


def _file_report(result: FileResult) -> dict[str, Any]:
    """A file's result as plain values."""
    source, table = result.source, result.table
    report = {'name': source.name, 'ann_file': source.ann_file, 'image_dir': source.image_root}
    if table is None:
        return {**report, 'error': result.error}
    return {
        **report,
        'num_images': len(table.file_names),
        'num_annotations': len(table.boxes),
        'categories': table.category_names,
        'findings': [asdict(finding) for finding in result.findings],
    }


def write_report(result: CheckResult, path: Path) -> None:
    """Write the results as JSON.

    Args:
        result: The results.
        path: The file; a report in its place is replaced.
    """
    pairs = [
        {'names': pair.names, 'findings': [asdict(finding) for finding in pair.findings]}
        for pair in result.pairs
    ]
    report = {
        'report': 'check_dataset',
        'num_errors': result.num_errors,
        'files': [_file_report(file) for file in result.files],
        'pairs': pairs,
    }
    write_atomic(path, json.dumps(report, indent=2))


def is_report(path: Path) -> bool:
    """Whether a file is a report that :func:`write_report` wrote."""
    with path.open('rb') as file:
        return file.read(len(REPORT_START)) == REPORT_START.encode()


def write_atomic(path: Path, text: str) -> None:
    """Write a file under a temporary name first, so that nobody sees half of it.

    Args:
        path: The file; its folder is made if needed.
        text: What it is to hold.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
