"""Measurements that compare detectors: work, tokens, time, memory and accuracy."""

from .accuracy import Accuracy, Evaluation, measure_accuracy, prepare_evaluation
from .comparison import Comparison, DetectorResult
from .costs import Conditions, Costs, Subject, measure_costs
from .detectors import ImageBatch, build_detector, detect, make_image
from .flops import PARTS, ForwardWork, count_work, sampling_multiply_adds
from .latency import Latency, measure_latency

__all__ = [
    'PARTS',
    'Accuracy',
    'Comparison',
    'Conditions',
    'Costs',
    'DetectorResult',
    'Evaluation',
    'ForwardWork',
    'ImageBatch',
    'Latency',
    'Subject',
    'build_detector',
    'count_work',
    'detect',
    'make_image',
    'measure_accuracy',
    'measure_costs',
    'measure_latency',
    'prepare_evaluation',
    'sampling_multiply_adds',
]
