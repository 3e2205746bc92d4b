"""Compare detectors in one run: parameters, multiply-adds, tokens, time, memory and AP.

Example:
    python tools/analysis_tools/compare.py \
        configs/salience_detr/salience-detr_r50_8xb2-12e_coco.py path/to/dino.py --out-dir compared
"""

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _common, _own_package, _settings

import _own_package  # noqa: F401  # before MMDetection
from _common import read_config
from _settings import add_settings

from mmdet_salience.analysis import memory
from mmdet_salience.analysis.accuracy import (
    Accuracy,
    Evaluation,
    measure_accuracy,
    prepare_evaluation,
)
from mmdet_salience.analysis.checkpoints import assign_checkpoints, name_configs
from mmdet_salience.analysis.comparison import (
    Comparison,
    DetectorResult,
    as_csv,
    as_json,
    as_markdown,
    as_text,
)
from mmdet_salience.analysis.costs import Conditions, Subject, measure_costs
from mmdet_salience.analysis.detectors import COCO_CLASSES
from mmdet_salience.analysis.plots import draw_comparison

SMALLEST_SIDE = 32


class Candidate(NamedTuple):
    """A detector to compare."""

    name: str
    """Its name in the tables."""
    subject: Subject
    """Its config and checkpoint."""
    evaluation: Evaluation | None
    """The test of its checkpoint, if it has one."""


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Compare detectors: parameters, multiply-adds, tokens, time, memory and AP.'
    )
    parser.add_argument('configs', nargs='+', metavar='config', help='config file')
    parser.add_argument(
        '--checkpoint',
        nargs='+',
        default=[],
        metavar='PATH',
        help='weights, whose AP is measured: one for each config in their order, "-" for none; or '
        'NAME=PATH with the name of the config file without .py',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        default=(800, 1333),
        metavar=('HEIGHT', 'WIDTH'),
        help='pixels of the image that work, time and memory are measured with '
        '(default: %(default)s)',
    )
    parser.add_argument('--repeats', type=int, default=10, help='timed runs (default: 10)')
    parser.add_argument('--warmup', type=int, default=2, help='runs before these (default: 2)')
    parser.add_argument(
        '--device', choices=('cpu', 'cuda'), help='by default a GPU if there is one'
    )
    parser.add_argument(
        '--split',
        choices=('val', 'test'),
        default='val',
        help="split of the first config's data to measure AP on (default: val)",
    )
    parser.add_argument(
        '--max-images', type=int, metavar='N', help='measure AP on the first N images only'
    )
    parser.add_argument(
        '--out-dir', type=Path, help='folder for comparison.md, .csv, .json and .png'
    )
    add_settings(parser, 'model.num_queries=300', 'all configs')
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Check what needs no config, and choose the device; changes the options in place.

    Args:
        args: The command line.

    Raises:
        ValueError: If a number is too small, the device is missing, or the folder cannot be made.
    """
    least = dict(repeats=1, warmup=0, max_images=1)
    for option, bound in least.items():
        value = getattr(args, option)
        if value is not None and value < bound:
            raise ValueError(f'--{option.replace("_", "-")} must be at least {bound}, got {value}')
    if min(args.shape) < SMALLEST_SIDE:
        raise ValueError(f'--shape must be at least {SMALLEST_SIDE} pixels high and wide')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda needs a GPU that PyTorch can use; leave it out')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if args.out_dir is not None:
        try:
            args.out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f'--out-dir {args.out_dir} cannot be made: {error}') from error


def find_candidates(args: argparse.Namespace, work_dir: Path) -> list[Candidate]:
    """Read the configs, and prepare their tests where they have a checkpoint.

    Args:
        args: The command line.
        work_dir: Folder for the logs of the tests.

    Returns:
        The detectors, in the order of the command line.

    Raises:
        FileNotFoundError: If a config, a checkpoint or the annotation file is missing.
        ValueError: If a config cannot be read, or does not fit the data.
    """
    names = name_configs(args.configs)
    checkpoints = assign_checkpoints(args.checkpoint, names)
    cfgs = [read_config(path, args.cfg_options, args.data_root) for path in args.configs]
    candidates = []
    for name, path, cfg, checkpoint in zip(names, args.configs, cfgs, checkpoints, strict=True):
        if cfg.get('model') is None:
            raise ValueError(f'{path} has no model; name a config of a detector')
        evaluation = None
        if checkpoint is not None:
            folder = work_dir / name
            evaluation = prepare_evaluation(cfg, cfgs[0], args.split, folder, args.max_images)
        candidates.append(Candidate(name, Subject(cfg, path, checkpoint), evaluation))
    return candidates


def show_progress(items: Sequence[Any], title: str) -> Iterable[Any]:
    """Pass items on and show a bar, if this is a terminal."""
    return tqdm(items, title, leave=False, disable=None)


def measure_ap(candidate: Candidate) -> Accuracy | None:
    """Measure the AP of a detector.

    Args:
        candidate: The detector.

    Returns:
        The AP, None without a checkpoint.
    """
    checkpoint = candidate.subject.checkpoint
    if candidate.evaluation is None or checkpoint is None:
        return None
    total = candidate.evaluation.num_images
    title = f'AP of {candidate.name}'
    with tqdm(desc=title, total=total, leave=False, unit='image', disable=None) as bar:
        return measure_accuracy(candidate.evaluation, checkpoint, bar.update)


def describe_run(
    args: argparse.Namespace, command: str, evaluations: Sequence[Evaluation]
) -> dict[str, str]:
    """Describe what was measured and how.

    Args:
        args: The command line.
        command: The command line as it was typed.
        evaluations: The tests, none without checkpoints.

    Returns:
        Texts by title.
    """
    device = f'CPU, threads: {torch.get_num_threads()}'
    method = memory.CPU_METHOD if memory.can_reset_peak() else memory.NO_METHOD
    if args.device == 'cuda':
        device, method = torch.cuda.get_device_name(), memory.CUDA_METHOD
    height, width = args.shape
    settings = dict(
        command=command,
        image=f'{height} x {width} pixels of noise, one at a time, padded as each model pads it',
        device=f'{device}; PyTorch {torch.__version__}',
        time=f'from the padded image to the boxes; {args.repeats} runs of each model, in turns, '
        f'after {args.warmup} for warming up',
        memory=method,
        counter='convolutions and matrix products; deformable sampling by formula (5 for each '
        'query token, level, point and channel) and in no sum',
    )
    if evaluations:
        first = evaluations[0]
        settings['data'] = f'{args.split}, {first.num_images} images of {first.ann_file}'
    return settings


def compare(args: argparse.Namespace, command: str) -> Comparison:
    """Measure all detectors.

    Args:
        args: The command line.
        command: The command line as it was typed.

    Returns:
        The comparison.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If options, configs and data do not fit together.
    """
    check_options(args)
    with TemporaryDirectory(prefix='compare_') as work_dir:
        candidates = find_candidates(args, Path(work_dir))
        evaluations = [c.evaluation for c in candidates if c.evaluation is not None]
        num_classes = evaluations[0].num_classes if evaluations else COCO_CLASSES
        device = torch.device(args.device)
        shape = tuple(args.shape)
        conditions = Conditions(shape, device, args.repeats, args.warmup, num_classes)
        costs = measure_costs([c.subject for c in candidates], conditions, show_progress)
        accuracies = [measure_ap(candidate) for candidate in candidates]
    results = tuple(
        DetectorResult(c.name, c.subject.path, c.subject.checkpoint, cost, ap)
        for c, cost, ap in zip(candidates, costs, accuracies, strict=True)
    )
    return Comparison(results, describe_run(args, command, evaluations))


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write a comparison as text, tables for programs and a picture.

    Args:
        comparison: The comparison.
        folder: Where to.
    """
    picture = folder / 'comparison.png'
    draw_comparison(comparison.results, picture)
    texts = dict(
        md=as_markdown(comparison, picture.name), csv=as_csv(comparison), json=as_json(comparison)
    )
    for suffix, text in texts.items():
        (folder / f'comparison.{suffix}').write_text(text, encoding='utf-8')


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, print, and write files if asked to.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    command = f'python tools/analysis_tools/compare.py {shlex.join(argv)}'
    try:
        comparison = compare(args, command)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(as_text(comparison))
    if args.out_dir is not None:
        write_comparison(comparison, args.out_dir)
        print(f'\nwritten to {args.out_dir}')


if __name__ == '__main__':
    main()
