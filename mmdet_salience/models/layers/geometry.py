"""Sizes of a batch's feature maps as Python integers.

Everything that decides how many tokens an image has, keeps or loses follows from image sizes
alone. Keeping those sizes as Python integers avoids device synchronisation, and keeping them *per
image* makes the result of an image independent of its batch-mates.

An image owns a *canvas*: its size rounded up to the padding divisor, which is what it would be
padded to if it were alone::

    +-----------+-----+-----------+
    |  image    |     |           |
    |  (valid)  |     |           |      canvas: what a batch of one would hold
    +-----------+     |           |      batch:  the canvas of the largest image
    |         canvas  |           |
    +-----------------+           |
    |                      batch  |
    +-----------------------------+
"""

from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide integers and round up."""
    return -(-numerator // denominator)


def count_valid(level_size: int, canvas_size: int, image_size: int) -> int:
    """Count the cells of one axis that are not padding.

    A level's padding mask is the image mask resized by nearest neighbour, so cell i is valid when
    ``floor(i * canvas_size / level_size) < image_size``.

    Args:
        level_size: Cells of the level along the axis.
        canvas_size: Pixels of the padded image along the axis.
        image_size: Pixels of the image along the axis.

    Returns:
        Number of valid cells, at most ``level_size``.
    """
    return min(level_size, ceil_div(image_size * level_size, canvas_size))


@dataclass(frozen=True)
class BatchGeometry:
    """Sizes (height, width) of a batch, in pixels or cells.

    Attributes:
        level_shapes: Map sizes of the padded batch, one a level, finest first.
        canvas_shapes: For each image the canvas in pixels.
        canvas_level_shapes: For each image the map sizes of its canvas, one a level.
        valid_shapes: For each image the map sizes without padding, one per level.
        shared: Whether every image's canvas is the whole batch and the largest budgets of the batch
            are everyone's, as in the release.
    """

    level_shapes: tuple[Size, ...]
    canvas_shapes: tuple[Size, ...]
    canvas_level_shapes: tuple[tuple[Size, ...], ...]
    valid_shapes: tuple[tuple[Size, ...], ...]
    shared: bool = False

    @classmethod
    def from_images(
        cls,
        image_shapes: Sequence[Sequence[int]],
        batch_shape: Sequence[int],
        strides: Sequence[int],
        divisor: int,
        shared: bool = False,
    ) -> 'BatchGeometry':
        """Derive all sizes from the images' sizes.

        Args:
            image_shapes: (height, width, ...) of each image in pixels, without padding.
            batch_shape: (height, width) of the padded batch in pixels.
            strides: Pixels a cell of each level, finest first.
            divisor: Images are padded to a multiple of it.
            shared: Whether the canvas of every image is the whole batch.

        Returns:
            The sizes of the batch.
        """
        batch = (int(batch_shape[0]), int(batch_shape[1]))
        images = [(int(shape[0]), int(shape[1])) for shape in image_shapes]
        canvases = tuple(
            batch
            if shared
            else (
                min(batch[0], ceil_div(height, divisor) * divisor),
                min(batch[1], ceil_div(width, divisor) * divisor),
            )
            for height, width in images
        )
        canvas_levels = tuple(level_sizes(canvas, strides) for canvas in canvases)
        valid = tuple(
            tuple(
                (count_valid(h, canvas[0], image[0]), count_valid(w, canvas[1], image[1]))
                for h, w in levels
            )
            for levels, canvas, image in zip(canvas_levels, canvases, images, strict=True)
        )
        return cls(level_sizes(batch, strides), canvases, canvas_levels, valid, shared)

    @property
    def num_levels(self) -> int:
        """Number of levels, L."""
        return len(self.level_shapes)

    @property
    def batch_size(self) -> int:
        """Number of images, B."""
        return len(self.canvas_shapes)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Tokens of each level of the padded batch."""
        return tuple(height * width for height, width in self.level_shapes)

    @property
    def num_tokens(self) -> int:
        """Tokens of the padded batch, N."""
        return sum(self.level_sizes)

    @property
    def num_valid_tokens(self) -> tuple[tuple[int, ...], ...]:
        """For each image the tokens of each level that are not padding."""
        return tuple(tuple(h * w for h, w in levels) for levels in self.valid_shapes)

    @property
    def is_uniform(self) -> bool:
        """Whether every image's canvas is the whole batch."""
        return all(levels == self.level_shapes for levels in self.canvas_level_shapes)


def level_sizes(shape: Sequence[int], strides: Sequence[int]) -> tuple[Size, ...]:
    """Map sizes of the levels; every stride-2 step rounds up.

    Args:
        shape: (height, width) in pixels.
        strides: Pixels a cell of each level.

    Returns:
        (height, width) of each level in cells.
    """
    return tuple((ceil_div(shape[0], stride), ceil_div(shape[1], stride)) for stride in strides)
