"""Check that all parts of a detector are made for the same number of feature levels."""

from operator import attrgetter
from typing import Any

from mmdet.models.necks import ChannelMapper

# Where each config key of the number of levels ends up in a built detector: a number, or a sequence
# with an entry per level.
LEVELS = {
    'salience_predictor.num_levels': 'salience_predictor.num_levels',
    'encoder.layer_cfg.self_attn_cfg.num_levels': 'encoder.layers.0.self_attn.num_levels',
    'encoder.token_filter.level_ratios': 'encoder.token_filter.level_ratios',
    'token_fusion.num_levels': 'token_fusion.num_levels',
    'decoder.layer_cfg.cross_attn_cfg.num_levels': 'decoder.layers.0.cross_attn.num_levels',
    'train_cfg.salience_assigner.level_ranges': 'bbox_head.salience_assigner.level_ranges',
}


def check_levels(detector: Any) -> None:
    """Stop where a part of a built ``SalienceDETR`` contradicts ``feature_strides``.

    Raises:
        ValueError: A part is made for another number of levels; the message names all that are.
    """
    num_levels = len(detector.feature_strides)
    counts = {'neck.num_outs': count_outputs(detector.neck)} if detector.with_neck else {}
    for key, place in LEVELS.items():
        try:
            value = attrgetter(place)(detector)
        except AttributeError:
            continue  # a part of another kind, or none
        counts[key] = value if isinstance(value, int) else len(value)
    wrong = [f'{key} for {count}' for key, count in counts.items() if count not in (num_levels, 0)]
    if wrong:
        raise ValueError(
            f'feature_strides has {num_levels} entries, one per feature level, but '
            f'{", ".join(wrong)}; give all of them the same number of levels.'
        )


def count_outputs(neck: Any) -> int:
    """Maps that mmdet's ``ChannelMapper`` puts out; 0 for other necks."""
    return len(neck.convs) + len(neck.extra_convs or ()) if isinstance(neck, ChannelMapper) else 0
