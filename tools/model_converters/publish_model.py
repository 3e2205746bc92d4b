"""Make a trained checkpoint ready to hand out: without what only training needs, named by hash.

Example:
    python tools/model_converters/publish_model.py work_dirs/castings/epoch_12.pth castings.pth
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout's own package

from mmdet_salience.utils.publishing import (
    plain_stem,
    resolve_target,
    save_hashed,
    strip_checkpoint,
)
from mmdet_salience.utils.safe_load import load_safely
from mmdet_salience.version import __version__


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Make a trained checkpoint ready to hand out. Weights, classes, config and '
        'versions stay; optimizer, schedules and logs go.'
    )
    parser.add_argument('source', type=Path, metavar='IN', help='checkpoint of a training run')
    parser.add_argument(
        'out',
        type=Path,
        nargs='?',
        metavar='OUT',
        help='file to write, whose name gets "-" and eight digits of its SHA-256, or folder; by '
        'default the name of IN, beside it',
    )
    parser.add_argument(
        '--ema',
        action=argparse.BooleanOptionalAction,
        help='with --ema the checkpoint has to hold a moving average (EMAHook), with --no-ema the '
        'weights of the last step are published instead of it; by default the average if there is '
        'one, which is what MMEngine loads',
    )
    return parser


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is run, unless the environment says that it is trusted.

    Args:
        path: The file.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, or holds what could run code.
    """
    content = load_safely(path)
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, and not a checkpoint')
    return content


def publish(args: argparse.Namespace) -> Path:
    """Do what the command line says.

    Args:
        args: The command line.

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: A file or folder is not there.
        FileExistsError: The result is there already.
        ValueError: The checkpoint is unsuitable.
    """
    source = args.source
    checkpoint = read_checkpoint(source)
    has_average = 'ema_state_dict' in checkpoint
    if args.ema and not has_average:
        raise ValueError(f'{source} holds no moving average; leave out --ema')
    try:
        published = strip_checkpoint(checkpoint, averaged=args.ema is not False)
    except ValueError as error:
        raise ValueError(
            f'{source}: {error}. Give a checkpoint that tools/train.py wrote; release_to_mmdet.py '
            "is for the authors' release"
        ) from error
    published['meta'].setdefault('mmdet_salience_version', __version__)
    path = save_hashed(published, resolve_target(args.out, source, plain_stem(source)))
    if has_average:
        print('weights: ' + ('those of the last step' if args.ema is False else 'moving average'))
    removed = ', '.join(key for key in checkpoint if key not in published)
    print(f'removed: {removed or "nothing"}')
    before, after = (file.stat().st_size / 1e6 for file in (source, path))
    print(f'{source}: {before:.1f} MB\n{path}: {after:.1f} MB')
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Publish.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: With a message if a file is missing, unsuitable or in the way.
    """
    try:
        publish(build_parser().parse_args(argv))
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
