"""Layers of the transformer: tokens, salience, filtering, encoder, decoder."""

from .background_embedding import AbsoluteBackgroundEmbedding
from .batch_norm import SingleValueSafeBN
from .decoder import SalienceDecoder
from .encoder import EncoderOutput, HierarchicalFilteringEncoder
from .geometry import BatchGeometry
from .salience_predictor import SaliencePredictor
from .token_filter import HierarchicalTokenFilter, TokenSelection
from .tokens import FeatureTokens, flatten_features

__all__ = [
    'AbsoluteBackgroundEmbedding',
    'BatchGeometry',
    'EncoderOutput',
    'FeatureTokens',
    'HierarchicalFilteringEncoder',
    'HierarchicalTokenFilter',
    'SalienceDecoder',
    'SaliencePredictor',
    'SingleValueSafeBN',
    'TokenSelection',
    'flatten_features',
]
