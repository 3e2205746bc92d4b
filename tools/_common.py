"""What ``tools/train.py`` and ``tools/test.py`` share: options, config and runner."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _settings import SettingError, add_settings, override_root
from mmengine.config import Config
from mmengine.registry import RUNNERS

if TYPE_CHECKING:  # brings PyTorch, which a check of a config's data does without
    from mmengine.runner import Runner


def add_run_options(parser: argparse.ArgumentParser, output: str, example: str) -> None:
    """Declare the config and the options that every run has.

    Args:
        parser: The parser, to which they are added in place.
        output: What the run writes beside its logs.
        example: A setting that one may want to override.
    """
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help=f'folder of logs and {output}; by default the work_dir of the config, '
        'else work_dirs/NAME_OF_THE_CONFIG',
    )
    add_settings(parser, example)
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='how the processes were started',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by torch.distributed.launch'
    )


def prefer_checkout() -> None:
    """Make ``import mmdet_salience`` find the source checkout this script lies in, if any."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / 'mmdet_salience').is_dir():
        sys.path.insert(0, str(checkout))


def limit_dynamo_cache() -> None:
    """Honour DYNAMO_CACHE_SIZE_LIMIT where the installed MMDetection knows it."""
    try:
        from mmdet.utils import setup_cache_size_limit_of_dynamo
    except ImportError:
        return
    setup_cache_size_limit_of_dynamo()


def prepare_process(local_rank: int) -> None:
    """Prepare environment, import path and compiler before the config is read.

    Args:
        local_rank: Number of the process on its machine, unless the environment already has it.
    """
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    prefer_checkout()
    limit_dynamo_cache()


def end_processes() -> None:
    """End the communication between processes; the runner must be out of use by then."""
    from mmdet_salience.utils.processes import leave_process_group  # prefer_checkout must have run

    leave_process_group()


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply what every run needs from the command line.

    Args:
        args: The command line, with the options of :func:`add_run_options`.

    Returns:
        The config; its imports have run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ``--data-root`` cannot be applied.
    """
    if not Path(args.config).is_file():
        raise FileNotFoundError(f'there is no config file {args.config}; check the path')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    from mmdet_salience.datasets.config_data import move_data_root  # prefer_checkout must have run

    data_root = cfg.get('data_root')
    override_root(cfg, args.cfg_options or {}, args.data_root)
    move_data_root(cfg, data_root)
    cfg.merge_from_dict(args.cfg_options or {})  # paths among them stay as they are given
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if cfg.get('default_scope') is None:
        cfg.default_scope = 'mmdet'
    return cfg


def read_config(path: str, options: dict[str, Any] | None, data_root: str | None = None) -> Config:
    """Read a config and move its datasets to its ``data_root``.

    Args:
        path: The config.
        options: Settings to override.
        data_root: Folder of the data instead of the config's.

    Returns:
        The config; its imports have run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as a config, or has no ``data_root`` to replace.
    """
    run = argparse.Namespace(config=path, cfg_options=options, data_root=data_root)
    run.launcher, run.work_dir = 'none', '.'
    try:
        return load_config(run)
    except (FileNotFoundError, SettingError):
        raise
    except Exception as error:  # a config is a program and may raise anything
        message = f'{path} is no readable config: {type(error).__name__}: {error}'
        raise ValueError(message) from error


def build_runner(cfg: Config) -> 'Runner':
    """Build the runner that fits the config to its data, or the one that the config names.

    Args:
        cfg: The config.

    Returns:
        The runner.

    Raises:
        FileNotFoundError: No annotation file of the config is there.
        ValueError: Annotation files and config contradict each other.
    """
    from mmdet_salience.engine import fit_to_data  # prefer_checkout must have run

    if cfg.get('runner_type') is None:
        cfg.runner_type = 'DataFittingRunner'
    elif cfg.runner_type != 'DataFittingRunner':  # which does this itself
        fit_to_data(cfg)
    return RUNNERS.build(cfg)
