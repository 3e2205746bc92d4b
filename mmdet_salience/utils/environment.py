"""Checks of the installation that fail early and name the remedy."""

import importlib


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
