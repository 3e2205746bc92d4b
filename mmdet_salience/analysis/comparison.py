"""What was measured of several detectors, and its tables, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from .accuracy import Accuracy
from .costs import Costs, Size
from .flops import PARTS, ForwardWork

UNKNOWN_ACCURACY = Accuracy(None, None, None, None, None)


class DetectorResult(NamedTuple):
    """Measurements of a detector.

    Attributes:
        name: Its name in the tables.
        config: Path of its config.
        checkpoint: Path or address of its weights; None for random ones.
        costs: Parameters, work, time and memory.
        accuracy: Average precision; None without a checkpoint.
    """

    name: str
    config: str
    checkpoint: str | None
    costs: Costs
    accuracy: Accuracy | None

    @property
    def size(self) -> Size:
        """Parameters and work."""
        return self.costs.size

    @property
    def work(self) -> ForwardWork:
        """Multiply-adds and tokens."""
        return self.costs.size.work


class Comparison(NamedTuple):
    """Detectors that were measured together.

    Attributes:
        results: The detectors; latencies are related to the first.
        settings: What was measured and how, by title; the command line is among it.
    """

    results: tuple[DetectorResult, ...]
    settings: dict[str, str]


class Table(NamedTuple):
    """Cells as text.

    Attributes:
        title: What the table shows.
        header: Titles of the columns; the first column holds names.
        rows: The cells of each row.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        """Write the table with aligned columns, names left and numbers right."""
        lines = (self.header, *self.rows)
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        aligned = [
            '  '.join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return '\n'.join([self.title, '', *aligned])

    def as_markdown(self) -> str:
        """Write the table in Markdown."""
        marks = ('---', *('---:' for _ in self.header[1:]))
        lines = [f'| {" | ".join(line)} |' for line in (self.header, marks, *self.rows)]
        return '\n'.join([f'## {self.title}', '', *lines])


def giga(number: int) -> str:
    """Write multiply-adds in 10^9: none as 0, below 0.1 with three decimals, else with one."""
    if number == 0:
        return '0'
    return f'{number / 1e9:.1f}' if number >= 1e8 else f'{number / 1e9:.3f}'


def size_table(results: Sequence[DetectorResult]) -> Table:
    """Tabulate parameters and tokens.

    Args:
        results: The detectors.

    Returns:
        The table.
    """
    header = ('model', 'parameters (M)', 'trainable (M)', 'padded to', 'tokens of encoder layers')
    rows = tuple(
        (
            result.name,
            f'{result.size.parameters / 1e6:.2f}',
            f'{result.size.trainable / 1e6:.2f}',
            '{} x {}'.format(*result.size.padded_shape),
            ' '.join(map(str, result.work.layer_tokens)) or '-',
        )
        for result in results
    )
    return Table('Parameters and tokens', header, rows)


def work_table(results: Sequence[DetectorResult]) -> Table:
    """Tabulate multiply-adds by part, and deformable sampling in a column of its own.

    Args:
        results: The detectors.

    Returns:
        The table.
    """
    header = ('model', 'total', *PARTS, 'beside the total: deformable sampling')
    rows = tuple(
        (
            result.name,
            giga(result.work.total),
            *(giga(result.work.by_part[part]) for part in PARTS),
            giga(result.work.sampling),
        )
        for result in results
    )
    return Table('Multiply-adds (G)', header, rows)


def speed_table(results: Sequence[DetectorResult]) -> Table:
    """Tabulate latency and memory.

    Args:
        results: The detectors.

    Returns:
        The table.
    """
    header = ('model', 'median (ms)', '10-90 % (ms)', 'ratio to the first', 'memory (MiB)')
    rows = tuple(
        (
            result.name,
            f'{result.costs.latency.median:.1f}',
            f'{result.costs.latency.low:.1f}-{result.costs.latency.high:.1f}',
            f'{result.costs.latency.median / results[0].costs.latency.median:.3f}',
            '-' if result.costs.memory is None else f'{result.costs.memory:.0f}',
        )
        for result in results
    )
    return Table('Time and memory for an image', header, rows)


def accuracy_table(results: Sequence[DetectorResult]) -> Table:
    """Tabulate average precision; '-' without a checkpoint or without objects of the kind.

    Args:
        results: The detectors.

    Returns:
        The table.
    """
    rows = tuple(
        (
            result.name,
            *('-' if ap is None else f'{ap:.3f}' for ap in result.accuracy or UNKNOWN_ACCURACY),
        )
        for result in results
    )
    return Table('Average precision', ('model', 'AP', 'AP50', 'APs', 'APm', 'APl'), rows)


def tables_of(comparison: Comparison) -> list[Table]:
    """Tabulate a comparison; average precision only where any is known."""
    results = comparison.results
    tables = [size_table(results), work_table(results), speed_table(results)]
    if any(result.accuracy for result in results):
        tables.append(accuracy_table(results))
    return tables


def as_text(comparison: Comparison) -> str:
    """Write a comparison for a terminal.

    Args:
        comparison: The comparison.

    Returns:
        Settings and tables.
    """
    settings = [f'{title}: {text}' for title, text in comparison.settings.items()]
    return '\n\n'.join(['\n'.join(settings), *(t.as_text() for t in tables_of(comparison))])


def as_markdown(comparison: Comparison, picture: str) -> str:
    """Write a comparison in Markdown.

    Args:
        comparison: The comparison; the setting ``command`` is shown as code.
        picture: Path of its picture, relative to the text.

    Returns:
        The text.
    """
    settings = dict(comparison.settings)
    command = settings.pop('command', '')
    parts = [
        '# Comparison',
        f'```bash\n{command}\n```',
        '\n'.join(f'- {title}: {text}' for title, text in settings.items()),
        *(table.as_markdown() for table in tables_of(comparison)),
        f'![Comparison]({picture})',
    ]
    return '\n\n'.join(parts) + '\n'


def as_record(result: DetectorResult, first: DetectorResult) -> dict[str, Any]:
    """Flatten a result into plain values, the multiply-adds unrounded.

    Args:
        result: The result.
        first: The result that the latency is related to.

    Returns:
        The values by column; None or an empty text for what is unknown.
    """
    return dict(
        name=result.name,
        config=result.config,
        checkpoint=result.checkpoint,
        parameters=result.size.parameters,
        trainable_parameters=result.size.trainable,
        padded_height=result.size.padded_shape[0],
        padded_width=result.size.padded_shape[1],
        multiply_adds=result.work.total,
        **{f'multiply_adds_{part}': result.work.by_part[part] for part in PARTS},
        deformable_sampling=result.work.sampling,
        layer_tokens=' '.join(map(str, result.work.layer_tokens)),
        latency_ms=result.costs.latency.median,
        latency_ms_p10=result.costs.latency.low,
        latency_ms_p90=result.costs.latency.high,
        latency_ratio=result.costs.latency.median / first.costs.latency.median,
        memory_mib=result.costs.memory,
        **(result.accuracy or UNKNOWN_ACCURACY)._asdict(),
    )


def as_csv(comparison: Comparison) -> str:
    """Write a comparison as CSV, a line a detector; unknown values are empty."""
    records = [as_record(result, comparison.results[0]) for result in comparison.results]
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys(), lineterminator='\n')
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_json(comparison: Comparison) -> str:
    """Write a comparison as JSON: ``settings``, and ``models`` with the columns of the CSV."""
    records = [as_record(result, comparison.results[0]) for result in comparison.results]
    return json.dumps(dict(settings=comparison.settings, models=records), indent=2) + '\n'
