"""Checks of the installation that fail early and name the remedy; its imports without noise."""

import importlib
import io
import sys
from contextlib import redirect_stdout

NOISE = 'Could not import OneDL'  # which a fork of MMDetection prints twice, and nobody misses


def require_mmcv_ops(extension: str = 'mmcv._ext') -> None:
    """Make sure that mmcv was built with its compiled operators.

    mmcv installs without a word of warning when PyTorch is missing at build time; its deformable
    attention and NMS then fail much later.

    Args:
        extension: Name of the compiled module.

    Raises:
        ImportError: mmcv, or its compiled module, cannot be imported.
    """
    try:
        importlib.import_module(extension)
    except ImportError as error:
        raise ImportError(
            f'mmdet_salience needs mmcv with its compiled operators, but {extension} cannot be '
            f'imported ({error}). Install PyTorch first, then rebuild mmcv: '
            '"pip uninstall -y onedl-mmcv mmcv", "pip cache remove onedl_mmcv", '
            '"pip install --no-build-isolation onedl-mmcv" (see the README).'
        ) from error


def import_quietly(name: str, noise: str = NOISE) -> None:
    """Import a module and pass on what it prints, but for one kind of lines.

    Args:
        name: Name of the module.
        noise: What such a line holds.
    """
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            importlib.import_module(name)
    finally:
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stdout.writelines(line for line in lines if noise not in line)
