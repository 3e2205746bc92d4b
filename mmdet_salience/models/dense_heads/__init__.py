"""Heads and their losses."""

from .salience_detr_head import SalienceDETRHead

__all__ = ['SalienceDETRHead']
