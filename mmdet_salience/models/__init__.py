"""Registered modules of Salience DETR."""

from .backbones import FocalNetBackbone, TorchvisionSwinTransformer, TransformersBackbone
from .dense_heads import ClassFollowingDINOHead, SalienceDETRHead
from .detectors import FocusDETR, PublishedDINO, SalienceDETR
from .layers import (
    AbsoluteBackgroundEmbedding,
    GlobalTokenFilter,
    HierarchicalFilteringEncoder,
    HierarchicalTokenFilter,
    RelativeBackgroundEmbedding,
    SalienceDecoder,
    SaliencePredictor,
    SingleValueSafeBN,
)
from .losses import ForegroundLoss, IoUAwareClassificationLoss, SalienceLoss
from .necks import CrossLevelTokenFusion
from .task_modules import (
    ForegroundAssigner,
    QueryRedundancyNMS,
    SalienceAssigner,
    TopQuerySelection,
)

__all__ = [
    'AbsoluteBackgroundEmbedding',
    'ClassFollowingDINOHead',
    'CrossLevelTokenFusion',
    'FocalNetBackbone',
    'FocusDETR',
    'ForegroundAssigner',
    'ForegroundLoss',
    'GlobalTokenFilter',
    'HierarchicalFilteringEncoder',
    'HierarchicalTokenFilter',
    'IoUAwareClassificationLoss',
    'PublishedDINO',
    'QueryRedundancyNMS',
    'RelativeBackgroundEmbedding',
    'SalienceAssigner',
    'SalienceDETR',
    'SalienceDETRHead',
    'SalienceDecoder',
    'SalienceLoss',
    'SaliencePredictor',
    'SingleValueSafeBN',
    'TopQuerySelection',
    'TorchvisionSwinTransformer',
    'TransformersBackbone',
]
