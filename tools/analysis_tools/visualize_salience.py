"""Show what a Salience DETR looks at: a figure for each image, and a page to look through them.

Writes ``OUT_DIR/index.html``, one file without links to others, and ``OUT_DIR/figures/*.png``.

Example:
    python tools/analysis_tools/visualize_salience.py \
        configs/salience_detr/salience-detr_r18_1xb8-750i_synthetic.py salience.pth \
        --split val --out-dir salience
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from mmengine.config import Config
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for _inspected_data
sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _common, _own_package, _settings

import _own_package  # noqa: F401  # before MMDetection
from _common import read_config
from _inspected_data import find_images, load_model, split_config
from _settings import add_settings
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS

from mmdet_salience.analysis.matching import MatchCounts
from mmdet_salience.apis import ImageInspection, inspect_dataset_image, inspect_image
from mmdet_salience.reports.salience_report import (
    LEAST_SCORE,
    count_image,
    image_record,
    is_own_page,
    write_salience_report,
)
from mmdet_salience.utils.file_names import distinct_names
from mmdet_salience.visualization.inspection_figure import draw_inspection

PAGE = 'index.html'
FIGURES = 'figures'
SMALLEST_SIDE = 64


class Task(NamedTuple):
    """Images to inspect."""

    count: int
    """How many there are to choose from."""
    names: tuple[str, ...]
    """Paths of those that are inspected."""
    inspect: Callable[[int], ImageInspection]
    """Inspects one of them by its number."""
    source: str
    """Where they come from, in words."""


class Results(NamedTuple):
    """What was inspected."""

    records: list[dict[str, Any]]
    """What the page needs of each image."""
    counts: list[MatchCounts]
    """Outcome of each image whose objects are known."""
    skipped: list[str]
    """Images that could not be read."""


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Show detections, salience, updated tokens and queries of images.',
        epilog='Exit status: 0 if an image could be read, 1 if none, 2 if the command is wrong.',
    )
    parser.add_argument('config', help='config of a SalienceDETR or FocusDETR')
    parser.add_argument('checkpoint', help='path or address of its weights')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        '--images', nargs='+', metavar='PATH', help='image files, or folders that are searched'
    )
    source.add_argument(
        '--split', choices=('val', 'test', 'train'), help="images and objects of the config's data"
    )
    parser.add_argument(
        '--max-images', type=int, default=50, metavar='N', help='only the first N (default: 50)'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score of a detection (default: 0.3)'
    )
    parser.add_argument(
        '--max-side',
        type=int,
        default=1024,
        help='pictures of the page are shrunk to so many pixels (default: 1024)',
    )
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument(
        '--out-dir', type=Path, required=True, help='folder of the page and the figures'
    )
    add_settings(parser, 'model.num_queries=300')
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Check what needs no config, and choose the device; changes the options in place.

    Args:
        args: The command line.

    Raises:
        FileNotFoundError: The checkpoint is missing.
        ValueError: A number is out of range, there is no such device, or the folder cannot be used.
    """
    if args.max_images < 1:
        raise ValueError(f'--max-images must be at least 1, got {args.max_images}')
    if not 0 <= args.score_thr <= 1:
        raise ValueError(f'--score-thr must lie in 0..1, got {args.score_thr}')
    if args.max_side < SMALLEST_SIDE:
        raise ValueError(f'--max-side must be at least {SMALLEST_SIDE}, got {args.max_side}')
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'there is no checkpoint {args.checkpoint}; check the path')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.zeros(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f'--device {args.device} cannot be used by PyTorch here; leave it out, or give cpu'
        ) from error
    page = args.out_dir / PAGE
    if page.exists() and not is_own_page(page):
        raise ValueError(f'{page} exists and is no page of this tool; choose another --out-dir')
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'--out-dir {args.out_dir} cannot be made: {error}') from error


def list_images(args: argparse.Namespace, cfg: Config) -> tuple[Task, BaseDetector]:
    """Prepare the inspection of files.

    Args:
        args: The command line.
        cfg: The config.

    Returns:
        The images and the model.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: There are no images, or the model cannot be used.
    """
    paths = find_images(args.images, args.out_dir)
    model = load_model(cfg, args.checkpoint, args.device)
    chosen = tuple(str(path) for path in paths[: args.max_images])

    def inspect(index: int) -> ImageInspection:
        return inspect_image(model, chosen[index])

    return Task(len(paths), chosen, inspect, ' '.join(args.images)), model


def list_split(args: argparse.Namespace, cfg: Config) -> tuple[Task, BaseDetector]:
    """Prepare the inspection of a split; arguments, results and errors as :func:`list_images`."""
    test = split_config(cfg, args.split)
    dataset = DATASETS.build(test.test_dataloader.dataset)
    if not len(dataset):
        raise ValueError(f'{args.split}_dataloader.dataset of {args.config} has no images')
    classes = tuple(dataset.metainfo.get('classes') or ())
    model = load_model(test, args.checkpoint, args.device, classes)
    numbers = range(min(len(dataset), args.max_images))
    names = tuple(dataset.get_data_info(index)['img_path'] for index in numbers)

    def inspect(index: int) -> ImageInspection:
        return inspect_dataset_image(model, dataset, index)

    return Task(len(dataset), names, inspect, f'{args.split} of {args.config}'), model


def name_figures(paths: Sequence[str]) -> list[str]:
    """Name figures after their images.

    Args:
        paths: The images.

    Returns:
        File names that differ: those of images in several folders get a number.
    """
    stems = distinct_names([Path(path).stem for path in paths])
    return [f'{stem}_salience.png' for stem in stems]


def inspect_all(task: Task, classes: Sequence[str], args: argparse.Namespace) -> Results:
    """Inspect images one by one, and draw the figure of each.

    Args:
        task: The images.
        classes: Class names.
        args: The command line.

    Returns:
        What the page needs.
    """
    results = Results([], [], [])
    steps = zip(task.names, name_figures(task.names), strict=True)
    for index, (path, figure) in enumerate(tqdm(steps, total=len(task.names), unit='image')):
        try:
            inspection = task.inspect(index)
        except (OSError, ValueError, cv2.error) as error:
            tqdm.write(f'skipped {path}: {str(error).strip()}', file=sys.stderr)
            results.skipped.append(path)
            continue
        draw_inspection(inspection, args.out_dir / FIGURES / figure, classes, args.score_thr)
        least = min(LEAST_SCORE, args.score_thr)
        results.records.append(image_record(inspection, classes, args.max_side, least))
        counts = count_image(inspection, args.score_thr)
        if counts is not None:
            results.counts.append(counts)
    return results


def summarize(task: Task, results: Results, score_thr: float) -> str:
    """Sum up in a few lines.

    Args:
        task: The images.
        results: What was found in them.
        score_thr: Least score of a detection.

    Returns:
        The text.
    """
    lines = [f'{len(results.records)} of {task.count} images shown']
    if len(task.names) < task.count:
        lines[0] += ' (--max-images shows more)'
    if results.counts:
        total = MatchCounts(*(sum(column) for column in zip(*results.counts, strict=True)))
        lines.append(
            f'{total.objects} objects: {total.found} found, {total.missed} missed; '
            f'{total.false} false detections (score >= {score_thr:g}, IoU >= 0.5)'
        )
    if results.skipped:
        lines.append(f'{len(results.skipped)} skipped because they could not be read')
    return '\n'.join(lines)


def run(args: argparse.Namespace, command: str) -> int:
    """Inspect images and write figures and page.

    Args:
        args: The command line.
        command: The command line as it was typed.

    Returns:
        Exit status.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: Options, config, checkpoint and data do not fit together.
    """
    check_options(args)
    cfg = read_config(args.config, args.cfg_options, args.data_root)
    task, model = (list_images if args.images else list_split)(args, cfg)
    results = inspect_all(task, model.dataset_meta['classes'], args)
    text = summarize(task, results, args.score_thr)
    print(text)
    if not results.records:
        print('no image could be read, nothing is written', file=sys.stderr)
        return 1
    facts = dict(
        images=task.source,
        config=args.config,
        checkpoint=args.checkpoint,
        result=text,
        command=command,
    )
    least = min(LEAST_SCORE, args.score_thr)
    page = args.out_dir / PAGE
    write_salience_report(page, results.records, args.score_thr, facts, least)
    print(f'written to {page}')
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool; exits with status 1 if no image could be read.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    command = f'python tools/analysis_tools/visualize_salience.py {shlex.join(argv)}'
    try:
        status = run(args, command)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if status:
        sys.exit(status)


if __name__ == '__main__':
    main()
