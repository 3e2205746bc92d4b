"""Backbone weights of other libraries, and of the release, in the names of our backbones.

The backbones call :func:`convert_backbone` whenever weights are loaded. The release keeps a
backbone in a sequence, so its names may begin with ``0.`` (the backbone) and ``1.`` (norms of its
outputs).
"""

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor, nn

from .checkpoints import unwrap

Rules = Sequence[tuple[str, Any]]

TORCHVISION_SWIN: Rules = (
    (r'^features\.0\.0\.', 'patch_embed.projection.'),
    (r'^features\.0\.2\.', 'patch_embed.norm.'),
    (r'^features\.(\d+)\.(norm|reduction)\.', lambda m: f'{_stage(m[1], -1)}.downsample.{m[2]}.'),
    (r'^features\.(\d+)\.(\d+)\.', lambda m: f'{_stage(m[1])}.blocks.{m[2]}.'),
    (r'\.attn\.', '.attn.w_msa.'),
    (r'\.mlp\.0\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.3\.', '.ffn.layers.1.'),
)

TORCHVISION_CONVNEXT: Rules = (
    (r'^features\.0\.0\.', 'model.embeddings.patch_embeddings.'),
    (r'^features\.0\.1\.', 'model.embeddings.layernorm.'),
    (
        r'^features\.(\d*[02468])\.([01])\.',
        lambda m: f'model.encoder.{_stage(m[1])}.downsampling_layer.{m[2]}.',
    ),
    (r'^features\.(\d+)\.(\d+)\.', lambda m: f'model.encoder.{_stage(m[1])}.layers.{m[2]}.'),
    (r'\.layer_scale$', '.layer_scale_parameter'),
    (r'\.block\.0\.', '.dwconv.'),
    (r'\.block\.2\.', '.layernorm.'),
    (r'\.block\.3\.', '.pwconv1.'),
    (r'\.block\.5\.', '.pwconv2.'),
)

FOCALNET: Rules = (
    (r'^patch_embed\.proj\.', 'model.focalnet.embeddings.patch_embeddings.projection.'),
    (r'^patch_embed\.norm\.', 'model.focalnet.embeddings.norm.'),
    (r'^layers\.(\d+)\.blocks\.', r'model.focalnet.encoder.stages.\1.layers.'),
    (
        r'^layers\.(\d+)\.downsample\.proj\.',
        r'model.focalnet.encoder.stages.\1.downsample.projection.',
    ),
    (r'^layers\.(\d+)\.downsample\.norm\.', r'model.focalnet.encoder.stages.\1.downsample.norm.'),
    (r'\.modulation\.f\.', '.modulation.projection_in.'),
    (r'\.modulation\.h\.', '.modulation.projection_context.'),
    (r'\.modulation\.proj\.', '.modulation.projection_out.'),
    (r'\.modulation\.ln\.', '.modulation.layernorm.'),
)

# Weights of classifiers, which a detector does not use.
CLASSIFIER = re.compile(r'(head|norm|classifier)\..*')


def _stage(index: str, offset: int = 0) -> str:
    """Stage of an entry of torchvision's ``features``: stages and what links them alternate."""
    return f'stages.{int(index) // 2 + offset}'


def convert_backbone(
    state_dict: MutableMapping[str, Any],
    prefix: str,
    mark: str,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    backbone: nn.Module,
) -> None:
    """Rename a backbone's weights in place, if they are in the foreign layout.

    Args:
        state_dict: Weights to load.
        prefix: Prefix of the backbone's names in ``state_dict``.
        mark: Foreign name by which the layout is known.
        rename: Turns the weights, by names without prefix, into ours.
        backbone: The module that loads them.

    Raises:
        ValueError: None of the weights belongs to the backbone.
    """
    unwrap(state_dict, prefix)
    own = {name[len(prefix) :]: name for name in list(state_dict) if name.startswith(prefix)}
    sequence = f'0.{mark}' in own
    if not sequence and mark not in own:
        if own and not own.keys() & backbone.state_dict().keys():
            raise ValueError(
                f'The checkpoint has none of the weights of {type(backbone).__name__}, neither in '
                f'its own layout nor in that of "{mark}"; it begins with {", ".join(list(own)[:3])}'
            )
        return
    weights = {}
    for name, full in own.items():
        value = state_dict.pop(full)
        name = name.removeprefix('0.') if sequence else name
        if not CLASSIFIER.fullmatch(name):
            weights[name] = value
    state_dict.update({prefix + name: value for name, value in rename(weights).items()})


def apply_rules(weights: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Rename weights by regular expressions, applied in order."""
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def torchvision_swin_to_mmdet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's Swin; patch merging takes its four neighbours in mmdet's order."""
    renamed = apply_rules(weights, TORCHVISION_SWIN)
    for name, value in renamed.items():
        if '.downsample.' in name:
            renamed[name] = reorder_neighbours(value)
        elif name.endswith('relative_position_index'):
            renamed[name] = value.reshape(round(value.numel() ** 0.5), -1)
    return renamed


def reorder_neighbours(weight: Tensor, order: Sequence[int] = (0, 2, 1, 3)) -> Tensor:
    """Reorder the inputs of patch merging.

    torchvision goes through the four neighbours by column and keeps each one's channels together;
    mmdet goes by row and keeps a channel's neighbours together.

    Args:
        weight: (..., 4·C).
        order: torchvision's neighbours in mmdet's order.

    Returns:
        (..., 4·C).
    """
    return weight.unflatten(-1, (4, -1))[..., list(order), :].transpose(-1, -2).flatten(-2)


def torchvision_convnext_to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's ConvNeXt; layer scales lose their two trailing axes."""
    renamed = apply_rules(weights, TORCHVISION_CONVNEXT)
    for name, value in renamed.items():
        if name.endswith('.layer_scale_parameter'):
            renamed[name] = value.flatten()
    return renamed


def focalnet_to_transformers(
    weights: Mapping[str, Tensor], out_indices: Sequence[int]
) -> dict[str, Tensor]:
    """Rename the original FocalNet, and the release's norms of its outputs.

    Args:
        weights: Weights by the original names; the release's norms are ``1.norm<stage>``.
        out_indices: Stages whose maps are returned.

    Returns:
        The weights by our names, without the norms of other stages.
    """
    renamed = {}
    for name, value in apply_rules(weights, FOCALNET).items():
        norm = re.match(r'1\.norm(\d+)\.(.*)', name)
        if norm is None:
            renamed[name] = value
        elif int(norm[1]) in out_indices:
            renamed[f'output_norms.{tuple(out_indices).index(int(norm[1]))}.{norm[2]}'] = value
    return renamed
