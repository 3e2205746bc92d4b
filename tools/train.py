"""Train a detector.

Usage: ``python tools/train.py CONFIG [--work-dir DIR] [--amp] [--resume [CHECKPOINT]] ...``
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

AUTO = 'auto'
DEVICES_WITHOUT_AMP = ('cpu', 'mps')


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description='Train a detector.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and checkpoints; by default the '
        'work_dir of the config, else work_dirs/NAME_OF_THE_CONFIG',
    )
    parser.add_argument('--amp', action='store_true', help='train with mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the total batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const=AUTO,
        metavar='CHECKPOINT',
        help='continue from this checkpoint; without a value, or with "auto", '
        'from the latest one in the work folder, if there is one',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as '
        'train_dataloader.batch_size=4 or key="[(a,b),(c,d)]" (no spaces)',
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='how the processes were started',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by torch.distributed.launch'
    )
    return parser


def prefer_checkout() -> None:
    """Make ``import mmdet_salience`` find the source checkout this script lies in, if any."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / 'mmdet_salience').is_dir():
        sys.path.insert(0, str(checkout))


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply what every run needs from the command line.

    Args:
        args: The command line.

    Returns:
        The config; its imports have run.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not Path(args.config).is_file():
        raise FileNotFoundError(f'there is no config file {args.config}; check the path')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    cfg.merge_from_dict(args.cfg_options or {})
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if cfg.get('default_scope') is None:
        cfg.default_scope = 'mmdet'
    return cfg


def enable_amp(cfg: Config, device: str) -> None:
    """Switch the optimizer wrapper to mixed precision in place.

    What the config already says about it (``dtype``, ``loss_scale``) stays.

    Args:
        cfg: The config.
        device: Kind of device the run will use.

    Raises:
        ValueError: If the device has no mixed-precision training, or the config uses another
            optimizer wrapper.
    """
    if device in DEVICES_WITHOUT_AMP:
        raise ValueError(
            f'--amp needs a GPU that PyTorch can use, but this run would use '
            f'"{device}", where MMEngine has no mixed-precision training; '
            'leave out --amp'
        )
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    name = getattr(wrapper, '__name__', str(wrapper))
    if name not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            '--amp replaces optim_wrapper.type=OptimWrapper, but the config has '
            f'{name}; leave out --amp or change optim_wrapper.type'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Switch on the scaling of the learning rate with the batch size in place.

    Args:
        cfg: The config.

    Raises:
        ValueError: If the config does not say for which batch size its learning rate is.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ValueError(
            '--auto-scale-lr needs the batch size that the learning rate was chosen '
            'for; set auto_scale_lr = dict(base_batch_size=...) in the config'
        )
    cfg.auto_scale_lr.enable = True


def set_resume(cfg: Config, resume: str) -> None:
    """Let the run continue an earlier one in place.

    With ``'auto'`` and no earlier checkpoint, ``load_from`` keeps its meaning: a run that is
    restarted by a queue can use the same command line every time.

    Args:
        cfg: The config, with its work folder.
        resume: Path or address of a checkpoint, or ``'auto'``.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
    """
    checkpoint = find_latest_checkpoint(cfg.work_dir) if resume == AUTO else resume
    if checkpoint is None:
        cfg.resume = False
        return
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f'there is no checkpoint {checkpoint} to resume from; check the '
            'path, or leave out --resume to start anew'
        )
    cfg.resume = True
    cfg.load_from = checkpoint


def prepare_config(args: argparse.Namespace) -> Config:
    """Turn the command line into the config of the run.

    Args:
        args: The command line.

    Returns:
        The config.
    """
    cfg = load_config(args)
    if args.amp:
        enable_amp(cfg, get_device())
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if args.resume is not None:
        set_resume(cfg, args.resume)
    return cfg


def limit_dynamo_cache() -> None:
    """Honour DYNAMO_CACHE_SIZE_LIMIT where the installed MMDetection knows it."""
    try:
        from mmdet.utils import setup_cache_size_limit_of_dynamo
    except ImportError:
        return
    setup_cache_size_limit_of_dynamo()


def main(argv: Sequence[str] | None = None) -> None:
    """Train.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    prefer_checkout()
    limit_dynamo_cache()
    try:
        cfg = prepare_config(args)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    main()
