"""Necks: fusion of the encoder's tokens across levels."""

from .cross_level_token_fusion import CrossLevelTokenFusion

__all__ = ['CrossLevelTokenFusion']
