"""Salience DETR for MMDetection.

Importing the package registers its modules (``MODELS``, ``TASK_UTILS``), so a config only needs
``custom_imports = dict(imports=['mmdet_salience'], allow_failed_imports=False)``.
"""

from .utils.environment import require_mmcv_ops
from .version import __version__

require_mmcv_ops()

from . import models  # noqa: E402  (mmdet cannot be imported before mmcv's operators are checked)

__all__ = ['__version__', 'models']
