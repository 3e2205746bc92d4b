"""Registered modules of Salience DETR."""

from .backbones import FocalNetBackbone, TorchvisionSwinTransformer, TransformersBackbone
from .dense_heads import SalienceDETRHead
from .detectors import SalienceDETR
from .layers import (
    AbsoluteBackgroundEmbedding,
    HierarchicalFilteringEncoder,
    HierarchicalTokenFilter,
    SalienceDecoder,
    SaliencePredictor,
    SingleValueSafeBN,
)
from .losses import IoUAwareClassificationLoss, SalienceLoss
from .necks import CrossLevelTokenFusion
from .task_modules import QueryRedundancyNMS, SalienceAssigner

__all__ = [
    'AbsoluteBackgroundEmbedding',
    'CrossLevelTokenFusion',
    'FocalNetBackbone',
    'HierarchicalFilteringEncoder',
    'HierarchicalTokenFilter',
    'IoUAwareClassificationLoss',
    'QueryRedundancyNMS',
    'SalienceAssigner',
    'SalienceDETR',
    'SalienceDETRHead',
    'SalienceDecoder',
    'SalienceLoss',
    'SaliencePredictor',
    'SingleValueSafeBN',
    'TorchvisionSwinTransformer',
    'TransformersBackbone',
]
