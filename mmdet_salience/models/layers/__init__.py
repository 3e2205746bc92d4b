"""Layers of the transformer: tokens, salience, filtering, encoder, decoder."""

from .background_embedding import AbsoluteBackgroundEmbedding, RelativeBackgroundEmbedding
from .batch_norm import SingleValueSafeBN
from .decoder import SalienceDecoder
from .encoder import EncoderOutput, HierarchicalFilteringEncoder
from .geometry import BatchGeometry
from .salience_predictor import SaliencePredictor
from .token_filter import GlobalTokenFilter, HierarchicalTokenFilter, TokenSelection
from .tokens import FeatureTokens, flatten_features

__all__ = [
    'AbsoluteBackgroundEmbedding',
    'BatchGeometry',
    'EncoderOutput',
    'FeatureTokens',
    'GlobalTokenFilter',
    'HierarchicalFilteringEncoder',
    'HierarchicalTokenFilter',
    'RelativeBackgroundEmbedding',
    'SalienceDecoder',
    'SaliencePredictor',
    'SingleValueSafeBN',
    'TokenSelection',
    'flatten_features',
]
