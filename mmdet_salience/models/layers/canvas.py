"""Run convolutional modules so that an image does not feel the padding of its batch-mates."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import Size


def pad_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Pad maps (B, C, h, w) with zeros at the bottom and right to ``size`` = (height, width)."""
    return F.pad(maps, (0, size[1] - maps.size(3), 0, size[0] - maps.size(2)))


def per_canvas(
    module: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    maps: Sequence[Tensor],
    crops: Sequence[tuple[Size, ...]],
    output_shapes: Sequence[Size],
) -> tuple[Tensor, ...]:
    """Apply a module to each group of images that share a canvas.

    Zero padding, group norm and pooling inside the module then see what they would see if an image
    were alone. A batch of one size is a single call.

    Args:
        module: Turns maps into maps, one (B, C, H, W) a level.
        maps: Inputs, (B, C, H, W) each.
        crops: For each image the (height, width) of its canvas in each of ``maps``.
        output_shapes: (height, width) of each output in the padded batch.

    Returns:
        The outputs, (B, C, H, W) each, zero outside an image's canvas.
    """
    whole = tuple((level.size(2), level.size(3)) for level in maps)
    groups: dict[tuple[Size, ...], list[int]] = {}
    for image, crop in enumerate(crops):
        groups.setdefault(crop, []).append(image)
    if list(groups) == [whole]:
        return tuple(module(maps))
    outputs = []
    for crop, images in groups.items():
        parts = [level[images, :, :h, :w] for level, (h, w) in zip(maps, crop, strict=True)]
        results = zip(module(parts), output_shapes, strict=True)
        outputs.append([pad_maps(result, shape) for result, shape in results])
    places = [image for images in groups.values() for image in images]
    order = sorted(range(len(places)), key=places.__getitem__)
    return tuple(torch.cat(level)[order] for level in zip(*outputs, strict=True))
