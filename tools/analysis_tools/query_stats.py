"""Count how the initial queries of detectors share out among objects, and how many are redundant.

The paper's first figure as numbers: queries per object and objects without any by COCO size (scale
bias), and queries next to a better one of the same object (redundancy), before and after redundancy
removal.

Example:
    python tools/analysis_tools/query_stats.py \
        configs/salience_detr/salience-detr_r18_1xb8-750i_synthetic.py \
        configs/dino/dino-4scale_r18_1xb8-750i_synthetic.py \
        --checkpoint salience.pth dino.pth --out-dir queries
"""

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from tqdm import tqdm

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _common, _own_package, _settings

import _own_package  # noqa: F401  # before MMDetection
from _common import read_config
from _settings import add_settings
from mmdet.apis import init_detector
from mmdet.registry import DATASETS

from mmdet_salience.analysis.accuracy import prepare_evaluation
from mmdet_salience.analysis.checkpoints import assign_checkpoints, name_configs
from mmdet_salience.analysis.plots import MODEL_COLORS, short_name
from mmdet_salience.analysis.query_stats import (
    SIZES,
    ObjectQueries,
    SizeStats,
    count_queries,
    join_counts,
    locate_tokens,
    summarize,
)

STAGES = ('before removal', 'after removal')


class Row(NamedTuple):
    """Figures of a detector, before or after redundancy removal, for one object size."""

    detector: str
    """Name of the detector."""
    stage: str
    """One of ``STAGES``."""
    stats: SizeStats
    """The figures."""


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Count initial queries by object size, and redundant ones.'
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config of a detector')
    parser.add_argument(
        '--checkpoint',
        nargs='+',
        required=True,
        metavar='PATH',
        help='a checkpoint for each config, or NAME=PATH with the stem of the config',
    )
    parser.add_argument(
        '--split', choices=('val', 'test'), default='val', help='of the first config'
    )
    parser.add_argument('--max-images', type=int, help='only the first images')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    parser.add_argument('--out-dir', type=Path, help='folder of tables and picture')
    add_settings(parser, 'model.num_queries=300', 'all configs')
    return parser


def image_counts(
    model: torch.nn.Module, dataset: BaseDataset, index: int
) -> tuple[ObjectQueries, ObjectQueries]:
    """Count the queries of one image.

    Args:
        model: The detector, with ``initial_queries``.
        dataset: The data, in test mode.
        index: Number of the image.

    Returns:
        Counts before and after redundancy removal.
    """
    batch = model.data_preprocessor(pseudo_collate([dataset[index]]), training=False)
    found = model.initial_queries(batch['inputs'], batch['data_samples'])
    info = dataset.get_data_info(index)
    boxes = np.array(
        [item['bbox'] for item in info['instances'] if not item['ignore_flag']], dtype=float
    ).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    scaled = boxes * np.tile(batch['data_samples'][0].scale_factor, 2)
    counts = []
    for indices in (found.best, found.chosen):
        places = locate_tokens(indices[0].cpu().numpy(), found.level_shapes, found.batch_shape)
        counts.append(count_queries(places, scaled, areas))
    return counts[0], counts[1]


def measure(name: str, model: torch.nn.Module, dataset: BaseDataset) -> Iterator[Row]:
    """Count the queries of a detector on all images.

    Args:
        name: Name of the detector.
        model: The detector.
        dataset: The data, in test mode.

    Yields:
        A row for each stage and size.
    """
    per_image = [
        image_counts(model, dataset, index)
        for index in tqdm(range(len(dataset)), desc=name, unit='image')
    ]
    for stage, counts in zip(STAGES, zip(*per_image, strict=True), strict=True):
        for stats in summarize(join_counts(counts)):
            yield Row(name, stage, stats)


def load_detector(cfg: Config, checkpoint: str, device: str) -> torch.nn.Module:
    """Load a detector.

    Args:
        cfg: Its config.
        checkpoint: Its checkpoint.
        device: Where it runs.

    Returns:
        The detector in evaluation mode.

    Raises:
        ValueError: It is of a kind that has no ``initial_queries``.
    """
    model = init_detector(cfg, checkpoint, device=device)
    if not hasattr(model, 'initial_queries'):
        raise ValueError(
            f'{type(model).__name__} has no initial_queries; SalienceDETR, FocusDETR and '
            'PublishedDINO have (configs/dino)'
        )
    return model


def as_table(rows: Sequence[Row]) -> list[list[str]]:
    """Write rows as texts, with a header."""
    table = [['detector', 'queries', 'size', 'objects', 'per object', 'without', 'redundant']]
    for name, stage, stats in rows:
        numbers = (stats.share_without, stats.share_redundant)
        shares = ['-' if np.isnan(value) else f'{value:.1%}' for value in numbers]
        mean = '-' if np.isnan(stats.queries_per_object) else f'{stats.queries_per_object:.2f}'
        table.append([name, stage, stats.size, str(stats.num_objects), mean, *shares])
    return table


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Align the cells of a table."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw queries per object, objects without queries and redundant queries as grouped bars.

    Args:
        rows: All rows.
        path: PNG to write.
    """
    groups = list(dict.fromkeys((row.detector, row.stage) for row in rows))
    figure = Figure(figsize=(13, 4.2 + 0.25 * len(groups)), layout='constrained')
    FigureCanvasAgg(figure)
    panels = (
        ('Queries per object', 'queries_per_object', 1),
        ('Objects without a query (%)', 'share_without', 100),
        ('Redundant queries of objects (%)', 'share_redundant', 100),
    )
    places, width = np.arange(len(SIZES)), 0.8 / len(groups)
    for axes, (title, key, factor) in zip(figure.subplots(1, 3), panels, strict=True):
        for number, (name, stage) in enumerate(groups):
            chosen = [row.stats for row in rows if (row.detector, row.stage) == (name, stage)]
            values = [factor * getattr(stats, key) for stats in chosen]
            axes.bar(
                places + (number - (len(groups) - 1) / 2) * width,
                np.nan_to_num(values),
                width,
                color=MODEL_COLORS[number // 2 % len(MODEL_COLORS)],
                alpha=0.45 if stage == STAGES[0] else 1.0,
                label=f'{short_name(name)}, {stage}',
            )
        axes.set(title=title, xticks=places, xticklabels=SIZES, ylim=(0, None))
        axes.spines[['top', 'right']].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=2, frameon=False)
    figure.savefig(path, dpi=110)


def write_results(rows: Sequence[Row], folder: Path, command: str) -> None:
    """Write tables and picture.

    Args:
        rows: All rows.
        folder: Where to; made if needed.
        command: The command line, for the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = as_table(rows)
    with (folder / 'queries.csv').open('w', newline='') as file:
        csv.writer(file).writerows(table)
    lines = [' | '.join(row) for row in table]
    lines.insert(1, ' | '.join('---' for _ in table[0]))
    body = '\n'.join(f'| {line} |' for line in lines)
    text = (
        f'# Initial queries\n\n{body}\n\n![Initial queries](queries.png)\n\n```\n{command}\n```\n'
    )
    (folder / 'queries.md').write_text(text)
    records = [dict(row._asdict(), stats=row.stats._asdict()) for row in rows]
    (folder / 'queries.json').write_text(json.dumps(dict(command=command, rows=records), indent=1))
    draw(rows, folder / 'queries.png')


def run(args: argparse.Namespace) -> list[Row]:
    """Count the queries of all detectors.

    Args:
        args: The command line.

    Returns:
        All rows.

    Raises:
        FileNotFoundError: A config, checkpoint or annotation file is missing.
        ValueError: A config has no checkpoint, or detector and data do not fit.
    """
    names = name_configs(args.configs)
    configs = [read_config(path, args.cfg_options, args.data_root) for path in args.configs]
    checkpoints = assign_checkpoints(args.checkpoint, names)
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        for name, cfg, checkpoint in zip(names, configs, checkpoints, strict=True):
            if checkpoint is None:
                raise ValueError(f'{name} has no checkpoint; queries of random weights say nothing')
            test = prepare_evaluation(cfg, configs[0], args.split, Path(folder), args.max_images)
            model = load_detector(test.cfg, checkpoint, args.device)
            rows += measure(name, model, DATASETS.build(test.cfg.test_dataloader.dataset))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        rows = run(args)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(as_text(as_table(rows)))
    if args.out_dir is not None:
        words = sys.argv[1:] if argv is None else argv
        write_results(rows, args.out_dir, shlex.join(['python', parser.prog, *words]))
        print(f'written to {args.out_dir}')


if __name__ == '__main__':
    main()
