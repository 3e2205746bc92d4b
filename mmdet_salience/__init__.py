"""Salience DETR for MMDetection.

Importing the package registers its modules (``MODELS``, ``TASK_UTILS``, ``RUNNERS``,
``METRICS``), so a config only needs
``custom_imports = dict(imports=['mmdet_salience'], allow_failed_imports=False)``.
"""

from .utils.environment import import_quietly, require_mmcv_ops
from .version import __version__

require_mmcv_ops()
import_quietly('mmdet.datasets')

# mmdet cannot be imported before mmcv's operators are checked.
from . import engine, evaluation, models  # noqa: E402

__all__ = ['__version__', 'engine', 'evaluation', 'models']
