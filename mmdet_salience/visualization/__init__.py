"""Drawings of what the detector finds and of what it considers salient."""

from .salience import (
    PanelRow,
    demo_panel,
    draw_detections,
    map_to_image,
    overlay_heatmap,
    salience_heatmap,
    sigmoid,
)

__all__ = [
    'PanelRow',
    'demo_panel',
    'draw_detections',
    'map_to_image',
    'overlay_heatmap',
    'salience_heatmap',
    'sigmoid',
]
