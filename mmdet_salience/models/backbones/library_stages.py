"""Maps, stem and stages of a model of Hugging Face's transformers, found without its class."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# What the tests try. Others work where their maps pass `examine_maps`.
SUPPORTED = (
    'bit',
    'convnext',
    'convnextv2',
    'dinov3_convnext',
    'hgnet_v2',
    'poolformer',
    'pvt_v2',
    'regnet',
    'resnet',
    'rt_detr_resnet',
    'segformer',
    'swin',
    'swinv2',
)
SUPPORT_HINT = (
    f'TransformersBackbone supports the model types {", ".join(SUPPORTED)}; for focalnet there is '
    'FocalNetBackbone'
)


def compute_maps(model: Any, images: Tensor, indices: Sequence[int]) -> tuple[Tensor, ...]:
    """Compute maps of stages.

    Args:
        model: A backbone of the library, which returns the maps that it was built for, or another
            model, whose last hidden states are the stages' maps.
        images: (B, 3, H, W).
        indices: The stages, from 0.

    Returns:
        Maps (B, C_i, H_i, W_i).
    """
    if hasattr(model, 'out_features'):
        return tuple(model(images).feature_maps)
    states = model(images, output_hidden_states=True).hidden_states
    return tuple(states[index - len(model.config.depths)] for index in indices)


def examine_maps(backbone: Any, described: Any, indices: Sequence[int]) -> tuple[int, ...]:
    """Check a backbone's maps on a small image, and freeze parameters that none depends on.

    Such parameters (the norm of a classifier, stages behind the last map) would make a distributed
    training wait for their gradients.

    Args:
        backbone: Makes maps (1, C_i, H_i, W_i) of an image by a ``model``.
        described: The library's configuration.
        indices: Stages of the maps, from 0.

    Returns:
        Channels of the maps.

    Raises:
        ValueError: The maps are none, or their strides do not double from stage to stage.
    """
    side = 2 ** (len(described.depths) + 2)  # two cells in the last map, for a patch of 4
    backbone.model.eval()
    image = next(backbone.parameters()).new_zeros(1, 3, side, side)
    try:
        with torch.enable_grad():
            maps = backbone(image)
            sizes = [tuple(x.shape[-2:]) for x in maps if x.dim() == 4]
            parameters = list(backbone.parameters())
            total = torch.stack([x.sum() for x in maps]).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f'model_type={described.model_type!r} of transformers gives no maps for images of any '
            f'size ({error}). {SUPPORT_HINT}'
        ) from error
    strides = [side // size[0] for size in sizes]
    expected = [strides[0] * 2 ** (index - indices[0]) for index in indices] if sizes else []
    if strides != expected or len(sizes) != len(indices) or any(h != w for h, w in sizes):
        raise ValueError(
            f'the maps of the stages {tuple(indices)} of model_type={described.model_type!r} have '
            f'strides {tuple(strides)}, but they must double from stage to stage. {SUPPORT_HINT}'
        )
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
    return tuple(x.shape[1] for x in maps)


@torch.no_grad()
def check_equal(model: nn.Module, other: nn.Module, indices: Sequence[int]) -> None:
    """Refuse models that differ in more than their weights.

    Args:
        model: A model.
        other: One with the same weights.
        indices: Stages whose maps are compared, from 0.

    Raises:
        ValueError: Their maps of a probe differ.
    """
    probe = torch.linspace(-2, 2, 3 * 64 * 64).view(1, 3, 64, 64)
    probe = probe.to(next(model.parameters()))
    training = model.training
    pairs = zip(
        *(compute_maps(each.eval(), probe, indices) for each in (model, other)), strict=True
    )
    model.train(training)
    if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs):
        raise ValueError('with the same weights the two compute different maps')


def find_stage_lists(model: nn.Module, count: int) -> tuple[str, dict[str, nn.ModuleList]]:
    """Find the stages of a model by its structure.

    Args:
        model: A model whose stages are the entries of a list, or of lists side by side (patch
            embeddings, blocks and norms).
        count: How many stages there are.

    Returns:
        Dotted name of the first list, and the lists by their own names.

    Raises:
        ValueError: There is no list of that length.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            owner = model.get_submodule(name.rpartition('.')[0])
            lists = {key: x for key, x in owner.named_children() if isinstance(x, nn.ModuleList)}
            return name, {key: x for key, x in lists.items() if len(x) == count}
    raise ValueError(f'{type(model).__name__} of transformers has no list of {count} stages')


def find_stages(model: nn.Module, count: int) -> list[nn.Module]:
    """Find the stages of a model; arguments and errors of :func:`find_stage_lists`."""
    _, lists = find_stage_lists(model, count)
    if len(lists) == 1:
        return list(*lists.values())
    return [
        nn.ModuleDict({name: parts[index] for name, parts in lists.items()})
        for index in range(count)
    ]


def find_stem(model: nn.Module, count: int) -> nn.Module:
    """Find what comes before the blocks of the first stage; arguments as above."""
    before = list(modules_before(model, find_stage_lists(model, count)[0]))
    if not before:
        return find_downsampling(find_stages(model, count)[0])
    return before[0] if len(before) == 1 else nn.ModuleList(before)


def modules_before(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """Yield the modules that a model registers before one of its submodules.

    Args:
        model: The model.
        name: Dotted name of the submodule.

    Yields:
        The modules, at every level on the way to it.
    """
    for part in name.split('.'):
        for child_name, child in model.named_children():
            if child_name == part:
                break
            yield child
        model = model.get_submodule(part)


def find_downsampling(stage: nn.Module) -> nn.Module:
    """Find what a stage begins with to reduce the map before its blocks.

    Args:
        stage: The stage.

    Returns:
        The module; an empty one where blocks do it, or the stage before at its end.
    """
    name, first = next(stage.named_children())
    return first if name.startswith(('downsampl', 'patch_embed')) else nn.Identity()
