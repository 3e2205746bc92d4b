"""A batch that does not fit into memory is named."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers import sample
from toy_training import ToyModel, run

from mmdet_salience.engine.memory_errors import naming_images

CPU = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
GPU = torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')


def make_batch() -> dict:
    """Two images, one of them without a path."""
    named, unnamed = sample((9000, 12000)), sample((64, 48))
    named.set_metainfo(dict(img_path='train/7.png'))
    unnamed.set_metainfo(dict(img_id=8))
    return dict(inputs=[], data_samples=[named, unnamed])


@pytest.mark.parametrize('error', [RuntimeError(CPU), GPU, MemoryError()])
def test_images_are_named_with_their_sizes(error: Exception) -> None:
    with pytest.raises(MemoryError) as caught, naming_images(make_batch()):
        raise error
    text = str(caught.value)
    assert '  train/7.png, 9000x12000\n' in text
    assert '  image 8, 64x48\n' in text
    assert text.endswith(str(error)) and caught.value.__cause__ is error


def test_other_errors_pass() -> None:
    error = RuntimeError('shapes cannot be multiplied')
    with pytest.raises(RuntimeError) as caught, naming_images(make_batch()):
        raise error
    assert caught.value is error


def test_training(tmp_path: Path) -> None:
    with (
        mock.patch.object(ToyModel, 'forward', side_effect=RuntimeError(CPU)),
        pytest.raises(MemoryError, match='Not enough memory for this batch'),
    ):
        run(tmp_path)
