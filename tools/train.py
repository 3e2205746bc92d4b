"""Train a detector.

Usage: ``python tools/train.py CONFIG [--work-dir DIR] [--amp] [--resume [CHECKPOINT]] ...``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # for _common, however this is loaded

from _ctrl_c import end_without_traceback

if __name__ == '__main__':
    end_without_traceback()  # before the imports that take seconds

from _common import add_run_options, build_runner, end_processes, load_config, prepare_process
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner, find_latest_checkpoint

AUTO = 'auto'
DEVICES_WITHOUT_AMP = ('cpu', 'mps')


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description='Train a detector.')
    add_run_options(parser, 'checkpoints', 'train_dataloader.batch_size=4')
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
        'from the last complete one in the work folder, if there is any',
    )
    return parser


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
    if resume == AUTO:
        set_auto_resume(cfg)
        return
    if '://' not in resume and not Path(resume).is_file():
        raise FileNotFoundError(
            f'there is no checkpoint {resume} to resume from; check the '
            'path, or leave out --resume to start anew'
        )
    cfg.resume = True
    cfg.load_from = resume


def set_auto_resume(cfg: Config) -> None:
    """Let the run continue from its last checkpoint, if there is any, in place.

    Args:
        cfg: The config, with its work folder.
    """
    from mmdet_salience.engine.resume import has_candidates  # prefer_checkout must have run

    if cfg.get('runner_type') in (None, 'DataFittingRunner'):  # which looks for a complete one
        cfg.resume = AUTO if has_candidates(Path(cfg.work_dir)) else False
        return
    checkpoint = find_latest_checkpoint(cfg.work_dir)
    cfg.resume = checkpoint is not None
    cfg.load_from = checkpoint or cfg.get('load_from')


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


def train(runner: Runner) -> None:
    """Train; ends the process with one line where checkpoints cannot be read or written.

    Args:
        runner: The runner.

    Raises:
        SystemExit: With that line, or with a status after a signal.
    """
    from mmdet_salience.engine.durable_files import NotWrittenError
    from mmdet_salience.engine.work_folder_lock import FolderInUseError
    from mmdet_salience.utils.safe_load import CheckpointFileError

    try:
        runner.train()
    except (CheckpointFileError, FolderInUseError, NotWrittenError) as error:
        raise SystemExit(f'error: {error}') from error


def main(argv: Sequence[str] | None = None) -> None:
    """Train.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    prepare_process(args.local_rank)
    try:
        runner = build_runner(prepare_config(args))
        if hasattr(runner, 'prepare_training'):  # the config may name another runner
            runner.prepare_training()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    train(runner)
    del runner  # which holds the model, and so the other processes
    end_processes()


if __name__ == '__main__':
    main()
