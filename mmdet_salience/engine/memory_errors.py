"""Name the images of a batch that does not fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .hooks.batch_record import image_names, samples_of

# In the messages of PyTorch's errors, for GPUs and for CPUs.
SIGNS = ('out of memory', "can't allocate memory")


def is_memory_error(error: Exception) -> bool:
    """Whether an error says that memory is short."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


def describe_sizes(batch: Any) -> str:
    """List the images of a batch with their sizes, height by width in pixels."""
    sizes = [sample.get('img_shape') for sample in samples_of(batch)]
    return '\n'.join(
        f'  {name}, {"x".join(map(str, size[:2])) if size else "of unknown size"}'
        for name, size in zip(image_names(batch), sizes, strict=True)
    )


@contextmanager
def naming_images(batch: Any) -> Iterator[None]:
    """Context in which errors for want of memory name the images of a batch.

    Args:
        batch: The batch from the dataloader.

    Yields:
        Nothing.

    Raises:
        MemoryError: Memory was short; other errors pass.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        raise MemoryError(
            f'Not enough memory for this batch:\n{describe_sizes(batch)}\n'
            'Lower train_dataloader.batch_size, let the pipeline resize images, or cut large ones '
            f'with tools/dataset_converters/tile_coco.py. {error}'
        ) from error
