"""Check that all parts of a detector are made for the same number of feature levels."""

from collections.abc import Mapping
from typing import Any


def count_levels(detector: Any) -> dict[str, int]:
    """Count the feature levels that the parts of a detector are made for.

    Args:
        detector: A ``SalienceDETR`` whose parts are built.

    Returns:
        Levels by the config key that sets them; parts that do not tell are left out.
    """
    attention = 'layer_cfg.{}_attn_cfg.num_levels'.format
    token_filter = getattr(detector.encoder, 'token_filter', None)
    assigner = getattr(detector.bbox_head, 'salience_assigner', None)
    ratios = getattr(token_filter, 'level_ratios', None)
    ranges = getattr(assigner, 'level_ranges', None)
    counts = {
        'neck.num_outs': count_outputs(getattr(detector, 'neck', None)),
        'salience_predictor.num_levels': getattr(detector.salience_predictor, 'num_levels', None),
        f'encoder.{attention("self")}': attended_levels(detector.encoder, 'self_attn'),
        'encoder.token_filter.level_ratios': None if ratios is None else len(ratios),
        'token_fusion.num_levels': getattr(detector.token_fusion, 'num_levels', None),
        f'decoder.{attention("cross")}': attended_levels(detector.decoder, 'cross_attn'),
        'train_cfg.salience_assigner.level_ranges': None if ranges is None else len(ranges),
    }
    return {key: count for key, count in counts.items() if count is not None}


def count_outputs(neck: Any) -> int | None:
    """Maps that mmdet's ``ChannelMapper`` puts out; None for other necks."""
    if not hasattr(neck, 'convs') or not hasattr(neck, 'extra_convs'):
        return None
    return len(neck.convs) + len(neck.extra_convs or ())


def attended_levels(transformer: Any, name: str) -> int | None:
    """Levels of the attention called ``name`` in the first layer; None where there is none."""
    layers = getattr(transformer, 'layers', None)
    return getattr(getattr(layers[0], name, None), 'num_levels', None) if layers else None


def check_levels(num_levels: int, counts: Mapping[str, int]) -> None:
    """Stop where parts disagree about the number of feature levels.

    Args:
        num_levels: Entries of ``feature_strides``.
        counts: Levels of the parts by config key.

    Raises:
        ValueError: A part is made for another number; the message names all that are.
    """
    wrong = [f'{key} for {count}' for key, count in counts.items() if count != num_levels]
    if wrong:
        raise ValueError(
            f'feature_strides has {num_levels} entries, one a feature level, but '
            f'{", ".join(wrong)}; give all of them the same number of levels.'
        )
