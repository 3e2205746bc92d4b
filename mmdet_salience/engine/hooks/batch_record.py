"""A batch in a file, in plain types, to be studied without this package."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.structures.bbox import BaseBoxes
from mmengine.dist import get_rank
from mmengine.structures import BaseDataElement
from torch import Tensor


class Suspect(NamedTuple):
    """A batch of the current step, as long as it is not known whether the step is good.

    Attributes:
        iteration: Number of the iteration, from 1.
        data: The batch from the dataloader.
        terms: Loss terms by name.
    """

    iteration: int
    data: Any
    terms: dict[str, float]


class BadBatch(NamedTuple):
    """A batch whose loss or gradient is no number.

    Attributes:
        iteration: Number of the iteration, from 1.
        rank: Process that had the batch.
        images: Names of the images.
        terms: Loss terms by name.
        path: File with the batch.
    """

    iteration: int
    rank: int
    images: tuple[str, ...]
    terms: dict[str, float]
    path: str

    def describe(self) -> str:
        """Say what happened, a few lines."""
        good = {name: value for name, value in self.terms.items() if math.isfinite(value)}
        bad = {name: value for name, value in self.terms.items() if name not in good}
        return (
            f'iteration {self.iteration}, rank {self.rank}\n'
            f'  not finite: {write_terms(bad) or "the gradient, while the loss is finite"}\n'
            f'  finite: {write_terms(good) or "nothing"}\n'
            f'  images: {", ".join(self.images)}\n'
            f'  batch: {self.path}'
        )


def write_terms(terms: dict[str, float]) -> str:
    """Write loss terms with their values."""
    return ', '.join(f'{name} {value:.4g}' for name, value in terms.items())


def plain(value: Any) -> Any:
    """Turn samples, boxes and arrays into dictionaries and tensors.

    Args:
        value: A batch, or part of one.

    Returns:
        The same in types that ``torch.load`` reads with ``weights_only=True``; what has no such
        form is described by a string.
    """
    if isinstance(value, BaseBoxes):
        value = value.tensor
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.tensor(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, BaseDataElement):
        value = dict(value.all_items())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def samples_of(value: Any) -> Iterator[BaseDataElement]:
    """Find the data samples of a batch, however nested."""
    if isinstance(value, BaseDataElement):
        yield value
    elif isinstance(value, Mapping):
        yield from samples_of(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from samples_of(item)


def image_names(batch: Any) -> tuple[str, ...]:
    """Names of a batch's images: paths, else numbers of the dataset."""
    return tuple(
        str(sample.get('img_path') or f'image {sample.get("img_id", "without a name")}')
        for sample in samples_of(batch)
    )


def save_record(content: Any, folder: Path, name: str) -> str:
    """Write a record, beside earlier ones of the same name.

    Args:
        content: The record.
        folder: Folder of the file; it is made.
        name: Name of the file without suffix.

    Returns:
        Path of the file, or why there is none: a full disk must not hide what the record is about.
    """
    path = folder / f'{name}.pth'
    number = 1
    while path.exists():
        number += 1
        path = folder / f'{name}_{number}.pth'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(plain(content), path)
    except (OSError, RuntimeError) as error:
        return f'not written ({error})'
    return str(path)


def save_suspect(suspect: Suspect, folder: Path) -> BadBatch:
    """Save a bad batch.

    Args:
        suspect: The batch.
        folder: Folder of the file.

    Returns:
        Its description, with the file's path.
    """
    number, rank = suspect.iteration, get_rank()
    content = dict(iteration=number, rank=rank, losses=suspect.terms, batch=suspect.data)
    path = save_record(content, folder, f'iter_{number}_rank{rank}')
    return BadBatch(number, rank, image_names(suspect.data), suspect.terms, path)
