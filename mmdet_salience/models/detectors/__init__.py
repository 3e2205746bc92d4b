"""Detectors."""

from .salience_detr import SalienceDETR, SalienceInspection

__all__ = ['SalienceDETR', 'SalienceInspection']
