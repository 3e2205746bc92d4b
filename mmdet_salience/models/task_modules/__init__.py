"""Assigner of the salience supervision and removal of redundant queries."""

from .query_redundancy_nms import QueryRedundancyNMS, QuerySelection, TopQuerySelection
from .salience_assigner import ForegroundAssigner, SalienceAssigner

__all__ = [
    'ForegroundAssigner',
    'QueryRedundancyNMS',
    'QuerySelection',
    'SalienceAssigner',
    'TopQuerySelection',
]
