"""Data sets that come with the package, and helpers around data."""

from .data_root import move_data_root
from .synthetic_defects import (
    CLASSES,
    PALETTE,
    DefectSettings,
    SyntheticDefects,
    generate_synthetic_defects,
    render_defect_image,
)

__all__ = [
    'CLASSES',
    'PALETTE',
    'DefectSettings',
    'SyntheticDefects',
    'generate_synthetic_defects',
    'move_data_root',
    'render_defect_image',
]
