"""Heads and their losses."""

from .class_following_head import ClassFollowingDINOHead
from .salience_detr_head import SalienceDETRHead

__all__ = ['ClassFollowingDINOHead', 'SalienceDETRHead']
