"""Registered modules of Salience DETR."""

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
]
