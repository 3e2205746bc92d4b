"""Detectors."""

from .focus_detr import FocusDETR
from .outputs import SalienceInspection
from .published_dino import PublishedDINO
from .salience_detr import SalienceDETR

__all__ = ['FocusDETR', 'PublishedDINO', 'SalienceDETR', 'SalienceInspection']
