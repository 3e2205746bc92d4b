"""Data sets that come with the package, and helpers around data."""

from .config_data import data_files, leaf_datasets, move_data_root, split_datasets
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
    'data_files',
    'generate_synthetic_defects',
    'leaf_datasets',
    'move_data_root',
    'render_defect_image',
    'split_datasets',
]
