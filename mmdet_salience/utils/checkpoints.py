"""Weights of the authors' release in our names.

:class:`mmdet_salience.models.SalienceDETR` calls :func:`convert_in_place` whenever weights are
loaded, so release checkpoints work unchanged with ``load_from``, ``load_checkpoint``,
``init_detector`` and ``tools/test.py``.
"""

import logging
import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

# COCO's 80 categories have ids between 1 and 90; the release has a class row for every id.
COCO_UNUSED_IDS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
NUM_COCO_IDS = 91
COCO_CATEGORY_IDS = tuple(i for i in range(NUM_COCO_IDS) if i not in COCO_UNUSED_IDS)

# Keys that may wrap the state dict, as in {'model': state_dict, 'epoch': 12}.
WRAPPER_KEYS = ('model', 'state_dict')

# A release checkpoint is known by this weight.
RELEASE_MARK = 'transformer.enc_mask_predictor.layer1.0.weight'

# Derived or duplicated entries of the release that have no counterpart here.
RELEASE_EXTRAS = (
    r'position_embedding\..*',
    r'transformer\.(level|layer)_filter_ratio',
    r'transformer\.encoder\.enhance_mcsp\..*',
)

_FUSION = {
    'lateral_convs': 'lateral_convs',
    'layer_blocks': 'top_down_blocks',
    'downsample_blocks': 'downsample_convs',
    'pan_blocks': 'bottom_up_blocks',
}

# (pattern, replacement) applied in order to release names; a ConvModule calls its parts conv, bn.
RELEASE_RULES = (
    (r'^transformer\.neck\.(\w+)\.', lambda match: f'token_fusion.{_FUSION[match[1]]}.'),
    (r'^(token_fusion\..*)\.bottlenecks\.(\d+)\.', r'\1.units.\2.'),
    (r'\.se_module\.conv_mask\.', '.gate.attention.'),
    (r'\.se_module\.se_module\.', '.gate.excite.'),
    (r'^(token_fusion\.(?:lateral|downsample)_convs\.\d+)\.0\.', r'\1.conv.'),
    (r'^(token_fusion\.(?:lateral|downsample)_convs\.\d+)\.1\.', r'\1.bn.'),
    (r'^(token_fusion\..*\.conv[12])\.0\.', r'\1.conv.'),
    (r'^(token_fusion\..*\.conv[12])\.1\.', r'\1.bn.'),
    (r'^transformer\.level_embeds$', 'level_embed'),
    (r'^transformer\.alpha$', 'salience_predictor.alpha'),
    (r'^transformer\.enc_mask_predictor\.layer1\.', 'salience_predictor.embed.'),
    (r'^transformer\.enc_mask_predictor\.layer2\.', 'salience_predictor.score.'),
    (r'^transformer\.enc_output\.', 'memory_trans_fc.'),
    (r'^transformer\.enc_output_norm\.', 'memory_trans_norm.'),
    (r'^transformer\.tgt_embed\.', 'query_embedding.'),
    (r'^denoising_generator\.label_encoder\.', 'dn_query_generator.label_embedding.'),
    (r'^transformer\.encoder\.(.*)\.pre_attention\.', r'encoder.\1.dual_attn.attn.'),
    (r'^transformer\.encoder\.(.*)\.pre_norm\.', r'encoder.\1.dual_norm.'),
    (r'^transformer\.encoder\.(.*)\.norm1\.', r'encoder.\1.norms.0.'),
    (r'^transformer\.encoder\.(.*)\.norm2\.', r'encoder.\1.norms.1.'),
    (r'^transformer\.encoder\.', 'encoder.'),
    # The release numbers the decoder's norms by attention, mmdet by order of use.
    (r'^transformer\.decoder\.(.*)\.norm2\.', r'decoder.\1.norms.0.'),
    (r'^transformer\.decoder\.(.*)\.norm1\.', r'decoder.\1.norms.1.'),
    (r'^transformer\.decoder\.(.*)\.norm3\.', r'decoder.\1.norms.2.'),
    (r'^transformer\.decoder\.(layers\.\d+\.self_attn)\.', r'decoder.\1.attn.'),
    (r'^transformer\.decoder\.class_head\.', 'bbox_head.cls_branches.'),
    (
        r'^transformer\.decoder\.bbox_head\.(\d+)\.layers\.(\d)\.',
        lambda match: f'bbox_head.reg_branches.{match[1]}.{2 * int(match[2])}.',
    ),
    (r'^transformer\.decoder\.', 'decoder.'),
    (r'^((?:en|de)coder\.layers\.\d+)\.linear1\.', r'\1.ffn.layers.0.0.'),
    (r'^((?:en|de)coder\.layers\.\d+)\.linear2\.', r'\1.ffn.layers.1.'),
)


def release_to_mmdet(
    state_dict: Mapping[str, Tensor], num_decoder_layers: int, num_neck_inputs: int
) -> dict[str, Tensor]:
    """Rename a release's weights.

    Args:
        state_dict: Weights by the release's names.
        num_decoder_layers: The two-stage branches follow those of the decoder layers.
        num_neck_inputs: Feature maps of the backbone; the neck's further levels are extra convs.

    Returns:
        The same tensors by our names, without the release's derived entries.
    """
    extras = re.compile('|'.join(RELEASE_EXTRAS))
    renamed = {}
    for name, value in state_dict.items():
        if extras.fullmatch(name):
            continue
        for pattern, replacement in RELEASE_RULES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(
            r'^transformer\.encoder_class_head\.',
            f'bbox_head.cls_branches.{num_decoder_layers}.',
            name,
        )
        name = re.sub(
            r'^transformer\.encoder_bbox_head\.layers\.(\d)\.',
            lambda match: f'bbox_head.reg_branches.{num_decoder_layers}.{2 * int(match[1])}.',
            name,
        )
        renamed[_neck_name(name, num_neck_inputs)] = value
    return renamed


def _neck_name(name: str, num_inputs: int) -> str:
    """Rename a weight of the channel mapper."""
    match = re.match(r'^neck\.convs\.(\d+)\.([01])\.(.*)$', name)
    if not match:
        return name
    level, part = int(match[1]), ('conv', 'gn')[int(match[2])]
    if level < num_inputs:
        return f'neck.convs.{level}.{part}.{match[3]}'
    return f'neck.extra_convs.{level - num_inputs}.{part}.{match[3]}'


def class_row_names(names: Iterable[str]) -> list[str]:
    """Names of the weights that have one row a class."""
    pattern = re.compile(
        r'bbox_head\.cls_branches\.\d+\.(weight|bias)|dn_query_generator\.label_embedding\.weight'
    )
    return [name for name in names if pattern.fullmatch(name)]


def fit_class_rows(state_dict: MutableMapping[str, Tensor], model: Any) -> None:
    """Fit class rows and model to each other; changes the weights in place.

    A release's 91 rows (COCO category ids) become 80 by id for a model with COCO's 80 classes. A
    model that follows its checkpoint (``num_classes=None``) takes its number of classes. Otherwise
    rows for another number of classes are dropped with a warning, so that they start fresh.

    Args:
        state_dict: Weights by our names.
        model: The detector that loads them.
    """
    names = class_row_names(state_dict)
    if not names:
        return
    wanted, rows = model.bbox_head.num_classes, len(state_dict[names[0]])
    if rows == NUM_COCO_IDS and wanted == len(COCO_CATEGORY_IDS):
        for name in names:
            state_dict[name] = state_dict[name][list(COCO_CATEGORY_IDS)]
    elif rows != wanted and model.bbox_head.follows_checkpoint:
        model.resize_classes(rows)
    elif rows != wanted:
        for name in names:
            del state_dict[name]
        print_log(
            f'The checkpoint has {rows} classes and the model {wanted}; these weights start fresh: '
            f'{", ".join(names)}',
            logger='current',
            level=logging.WARNING,
        )


def unwrap(state_dict: MutableMapping, prefix: str = '') -> None:
    """Lift a state dict stored under ``model`` or ``state_dict`` to the top, in place."""
    for key in WRAPPER_KEYS:
        inner = state_dict.get(prefix + key)
        if isinstance(inner, Mapping):
            state_dict.clear()
            state_dict.update({prefix + name: value for name, value in inner.items()})


def describe(names: Iterable[str]) -> str:
    """Say in a few words what a state dict looks like."""
    names = list(names)
    if not names:
        return 'an empty checkpoint'
    tops = {name.split('.')[0] for name in names}
    if any(name.startswith('encoder.layers.') for name in names) and 'bbox_head' in tops:
        return "a DETR of MMDetection without salience (DINO's weights, for example)"
    if 'conv1' in tops and 'layer1' in tops:
        return 'a bare ResNet backbone (use it as backbone.init_cfg)'
    if 'transformer' in tops:
        return "a DETR in the release's layout without a salience predictor"
    return f'weights under {", ".join(sorted(tops)[:8])}'


def check_origin(state_dict: Mapping, model: nn.Module) -> None:
    """Make sure that a state dict belongs to the model's kind.

    Args:
        state_dict: Weights without prefix.
        model: The detector.

    Raises:
        ValueError: A part of the model has no weight in it.
    """
    tops = {name.split('.')[0] for name in state_dict}
    parts = [
        name for name, child in model.named_children() if next(child.parameters(), None) is not None
    ]
    missing = [name for name in parts if name not in tops]
    if missing:
        raise ValueError(
            f'The checkpoint looks like {describe(state_dict)}: it has no weights for '
            f'{", ".join(missing)}. Expected a checkpoint of {type(model).__name__} '
            f'({", ".join(parts)}) or of the Salience DETR release ("{RELEASE_MARK}", ...), at the '
            'top or under "model" or "state_dict".'
        )


def convert_in_place(state_dict: MutableMapping, model: Any, prefix: str = '') -> None:
    """Turn a release checkpoint into the model's names and classes; leave our own as they are.

    Args:
        state_dict: Weights to load; changed in place.
        model: The detector that loads them.
        prefix: Prefix of the model's names in ``state_dict``.

    Raises:
        ValueError: The weights are neither ours nor the release's.
    """
    weights = take_weights(state_dict, prefix)
    if RELEASE_MARK in weights:
        num_neck_inputs = len(getattr(model.neck, 'convs', ()))
        weights = release_to_mmdet(weights, model.decoder.num_layers, num_neck_inputs)
    else:
        check_origin(weights, model)
    fit_class_rows(weights, model)
    state_dict.update({prefix + name: value for name, value in weights.items()})


def take_weights(state_dict: MutableMapping, prefix: str) -> dict[str, Any]:
    """Take a module's weights out of a state dict, in place; returns them without prefix."""
    unwrap(state_dict, prefix)
    names = [name for name in state_dict if name.startswith(prefix)]
    return {name[len(prefix) :]: state_dict.pop(name) for name in names}


def fit_in_place(state_dict: MutableMapping, model: Any, prefix: str = '') -> None:
    """Fit the class rows of weights in the model's own names, see :func:`fit_class_rows`.

    Args:
        state_dict: Weights to load; changed in place.
        model: The detector that loads them.
        prefix: Prefix of the model's names in ``state_dict``.
    """
    weights = take_weights(state_dict, prefix)
    fit_class_rows(weights, model)
    state_dict.update({prefix + name: value for name, value in weights.items()})
