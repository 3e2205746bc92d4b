"""Write a config that is fitted to its data, for tools that build datasets and models themselves.

Datasets, evaluators and model get what a run gives them: the data root, the classes of the
annotation files and their number. The config that a training writes into its work folder is the
same.

Example:
    python tools/misc/fit_config.py configs/salience_detr/my_config.py fit.py --data-root data/set
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _common, _own_package, _settings

import _own_package  # noqa: F401  # before MMDetection
from _common import read_config
from _settings import add_settings

from mmdet_salience.engine import fit_to_data
from mmdet_salience.engine.runner import describe_splits


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description='Write a config that is fitted to its data.')
    parser.add_argument('config', help='config file')
    parser.add_argument('out', type=Path, help='the fitted config, a new .py file')
    add_settings(parser, 'train_dataloader.dataset.ann_file=train.json')
    return parser


def write_fitted(args: argparse.Namespace) -> list[str]:
    """Fit the config and write it.

    Args:
        args: The command line.

    Returns:
        What the annotation files hold, and which are missing.

    Raises:
        FileNotFoundError: The config or all of its annotation files are missing.
        OSError: The file cannot be written.
        ValueError: The file is there or no ``.py``, or config and annotation files contradict each
            other.
    """
    if args.out.suffix != '.py':
        raise ValueError(f'{args.out} is no name of a config; let it end in .py')
    if args.out.exists():
        raise ValueError(f'{args.out} exists and is not overwritten; choose another name')
    cfg = read_config(args.config, args.cfg_options, args.data_root)
    if cfg.get('model') is None:
        raise ValueError(f'{args.config} has no model; name a config of a detector')
    cfg.pop('launcher')
    cfg.pop('work_dir')
    fit = fit_to_data(cfg)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(args.out)
    return [*describe_splits(fit), *(f'left as it is: {error}' for error in fit.missing.values())]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the config, or say what is wrong.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        lines = write_fitted(args)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print('\n'.join([*lines, f'written to {args.out}']))


if __name__ == '__main__':
    main()
