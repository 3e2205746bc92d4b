"""Backbones that mmdet has in another form, or that come from other libraries."""

from .swin import TorchvisionSwinTransformer
from .transformers_backbone import FocalNetBackbone, TransformersBackbone

__all__ = ['FocalNetBackbone', 'TorchvisionSwinTransformer', 'TransformersBackbone']
