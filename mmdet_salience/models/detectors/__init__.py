"""Detectors."""

from .outputs import SalienceInspection
from .salience_detr import SalienceDETR

__all__ = ['SalienceDETR', 'SalienceInspection']
