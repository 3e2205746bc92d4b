"""Data sets that come with the package: the synthetic surface defects."""

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
    'render_defect_image',
]
