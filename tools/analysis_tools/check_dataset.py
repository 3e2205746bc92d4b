"""Check COCO annotations and their images before training, and write repaired copies.

Example:
    python tools/analysis_tools/check_dataset.py configs/salience_detr/my_config.py
    python tools/analysis_tools/check_dataset.py train.json --image-dir images --repair mended.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for _check_results, _repair_copies
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for _common, _settings

import _data_package  # noqa: F401  # the data modules of the checkout's own package
from _check_results import CheckResult, check_sources, describe_result, is_report, write_report
from _common import read_config
from _repair_copies import repair_files
from _settings import add_settings

from mmdet_salience.datasets.checks.annotation_file import require_file
from mmdet_salience.datasets.checks.annotation_source import (
    AnnotationSource,
    find_annotation_source,
)
from mmdet_salience.datasets.config_data import SPLITS, split_datasets

MAX_EXAMPLES = 5


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Check COCO annotations and their images before training.',
        epilog='Exit status: 0 without errors, 1 with errors, 2 if the command line is wrong.',
    )
    parser.add_argument('target', help='annotation file (.json), or config (.py) that names some')
    parser.add_argument(
        '--image-dir',
        help='folder that the file names of an annotation file start from; without it the images '
        'are not looked at (a config knows its folders)',
    )
    parser.add_argument(
        '--split', nargs='+', choices=SPLITS, help='splits of the config (default: all it has)'
    )
    parser.add_argument(
        '--repair',
        metavar='OUT',
        type=Path,
        help='write a repaired copy to this file, or of each split of a config to this folder, '
        'and check it; the original stays as it is',
    )
    parser.add_argument(
        '--categories-from',
        metavar='TRAIN.json',
        help='with --repair of an annotation file: give the copy the categories of this file, in '
        'their order (the splits of a config get those of its first)',
    )
    parser.add_argument(
        '--pixels',
        action='store_true',
        help='decode all images, to find those with damaged pixels too; takes as long as reading '
        'them in training',
    )
    parser.add_argument('--json', metavar='REPORT.json', type=Path, help='write a report')
    parser.add_argument('--all', action='store_true', help='list every example, not only five')
    add_settings(parser, 'train_dataloader.dataset.ann_file=train.json')
    return parser


def find_config_sources(cfg: Config, splits: Sequence[str]) -> list[AnnotationSource]:
    """Find what the datasets of a config read.

    Args:
        cfg: The config.
        splits: Splits to look at.

    Returns:
        A source for each dataset in COCO format; those that read the same share one.

    Raises:
        ValueError: If there is nothing to check, or a dataset lacks its annotation file.
    """
    sources: list[AnnotationSource] = []
    for split in splits:
        datasets = split_datasets(cfg, split)
        for index, dataset in enumerate(datasets):
            name = split if len(datasets) == 1 else f'{split}-{index}'
            source = find_annotation_source(dataset, name)
            if source is None:
                print(f'{name}: a {dataset.get("type")} is not read like a CocoDataset; skipped')
                continue
            same = [i for i, s in enumerate(sources) if s._replace(name=name) == source]
            if same:
                sources[same[0]] = source._replace(name=f'{sources[same[0]].name}, {name}')
            else:
                sources.append(source)
    if not sources:
        raise ValueError(f'the config has no CocoDataset in {", ".join(splits)}')
    return sources


def find_sources(args: argparse.Namespace) -> list[AnnotationSource]:
    """Find what to check.

    Args:
        args: The command line.

    Returns:
        At least one source.

    Raises:
        FileNotFoundError: If the target or the image folder is missing.
        ValueError: If options do not fit the target, or a config has nothing to check.
    """
    if args.target.endswith('.py'):
        for option in ('image_dir', 'categories_from'):
            if getattr(args, option) is not None:
                name = option.replace('_', '-')
                raise ValueError(f'--{name} is for an annotation file; use --cfg-options instead')
        cfg = read_config(args.target, args.cfg_options, args.data_root)
        return find_config_sources(cfg, args.split or SPLITS)
    if args.split or args.cfg_options or args.data_root:
        raise ValueError('--split, --data-root and --cfg-options are for a config (.py)')
    require_file(Path(args.target))
    if args.image_dir is not None and not Path(args.image_dir).is_dir():
        raise FileNotFoundError(f'there is no image folder {args.image_dir}')
    return [AnnotationSource('', args.target, args.image_dir)]


def find_outputs(args: argparse.Namespace, sources: Sequence[AnnotationSource]) -> list[Path]:
    """Name the repaired copies, and make sure that nothing is overwritten.

    Args:
        args: The command line.
        sources: What is checked.

    Returns:
        A path for each source, none without ``--repair``.

    Raises:
        FileNotFoundError: If the file of ``--categories-from`` is missing.
        ValueError: If a file is in the way, or ``--categories-from`` has no use.
    """
    if args.json is not None and args.json.exists() and not is_report(args.json):
        raise ValueError(f'{args.json} exists and is no report; choose another name for --json')
    if args.repair is None:
        if args.categories_from is not None:
            raise ValueError('--categories-from needs --repair')
        return []
    if args.categories_from is not None:
        require_file(Path(args.categories_from))
    outputs = [args.repair]
    if args.target.endswith('.py'):
        outputs = [args.repair / f'{source.name.split(",")[0]}.json' for source in sources]
    for path in outputs:
        if path.exists():
            raise ValueError(f'{path} exists; --repair does not overwrite, choose another name')
    return outputs


def repair_and_check(
    result: CheckResult, outputs: Sequence[Path], args: argparse.Namespace
) -> CheckResult:
    """Write repaired copies and check them.

    Args:
        result: Results of the originals.
        outputs: A path for the copy of each file.
        args: The command line.

    Returns:
        The results of the copies, and of the files that could not be read.

    Raises:
        SystemExit: With a message if a copy cannot be written.
    """
    max_examples = None if args.all else MAX_EXAMPLES
    try:
        copies = repair_files(result, outputs, args.categories_from, args.pixels)
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    checked = check_sources(copies, max_examples, args.pixels)
    print(f'\nThe copies:\n\n{describe_result(checked, max_examples)}')
    unread = [file for file in result.files if file.table is None]
    return CheckResult([*checked.files, *unread], checked.pairs)


def main(argv: Sequence[str] | None = None) -> None:
    """Check, perhaps repair, and exit with status 1 if there are errors.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        sources = find_sources(args)
        outputs = find_outputs(args, sources)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    max_examples = None if args.all else MAX_EXAMPLES
    result = check_sources(sources, max_examples, args.pixels)
    print(describe_result(result, max_examples))
    if outputs:
        result = repair_and_check(result, outputs, args)
    if args.json is not None:
        write_report(result, args.json)
    if result.num_errors:
        print(f'\nnot ready for training: errors, counted by file and kind: {result.num_errors}')
        sys.exit(1)


if __name__ == '__main__':
    main()
