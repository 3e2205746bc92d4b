"""Assigner of the salience supervision and removal of redundant queries."""

from .query_redundancy_nms import QueryRedundancyNMS, QuerySelection
from .salience_assigner import SalienceAssigner

__all__ = ['QueryRedundancyNMS', 'QuerySelection', 'SalienceAssigner']
