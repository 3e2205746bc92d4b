"""Metrics, which MMEngine's evaluators build by name."""

from .report_metric import EvaluationReport

__all__ = ['EvaluationReport']
