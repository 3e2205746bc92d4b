"""Many threads on one model, and memory over many images."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import build, inference_config, make_batch, tiny_model_cfg
from mmdet.apis import inference_detector
from mmengine.structures import InstanceData

from mmdet_salience.apis import Objects, detect_images, inspect_image, iter_detections

NUM_THREADS = 8
NUM_IMAGES = 8
ROUNDS = 3
STATM = Path('/proc/self/statm')


@pytest.fixture
def model() -> torch.nn.Module:
    """A tiny detector as init_detector returns it."""
    detector = build(tiny_model_cfg())
    detector.cfg = inference_config(tiny_model_cfg())
    return detector


def random_image(number: int) -> np.ndarray:
    """An image of its own size, BGR."""
    source = np.random.default_rng(number)
    height, width = source.integers(20, 100, 2)
    return source.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of images of different sizes."""
    root = tmp_path_factory.mktemp('images')
    names = [str(root / f'{number}.png') for number in range(NUM_IMAGES)]
    for number, name in enumerate(names):
        cv2.imwrite(name, random_image(number))
    return names


def assert_same(found: InstanceData | Objects, expected: InstanceData | Objects) -> None:
    """Compare detections of either kind."""
    for key in ('scores', 'bboxes'):
        values = [np.asarray(getattr(result, key)) for result in (found, expected)]
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4)


def assert_threads_agree(function: Callable[[int], InstanceData | Objects]) -> None:
    """Compare what threads get for the images with what one gets after the other."""
    expected = [function(number) for number in range(NUM_IMAGES)]
    numbers = [number for _ in range(ROUNDS) for number in range(NUM_IMAGES)]
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        for number, found in zip(numbers, threads.map(function, numbers), strict=True):
            assert_same(found, expected[number])


def test_inference_detector(model: torch.nn.Module, paths: list[str]) -> None:
    assert_threads_agree(lambda number: inference_detector(model, paths[number]).pred_instances)


def test_detect_images_with_files_and_arrays(model: torch.nn.Module, paths: list[str]) -> None:
    """Batches of an image and another, a file and an array by turns."""

    def detect(number: int) -> InstanceData:
        images = [paths[number], random_image(number + 1)]
        result = detect_images(model, images[:: 1 if number % 2 else -1])[number % 2 - 1]
        return result.detections.pred_instances

    assert_threads_agree(detect)


def test_inspect_image(model: torch.nn.Module, paths: list[str]) -> None:
    images = [path if number % 2 else cv2.imread(path) for number, path in enumerate(paths)]
    assert_threads_agree(lambda number: inspect_image(model, images[number]).detections)


def test_predict(model: torch.nn.Module) -> None:
    """Batches of two sizes; gradients are off in the calling thread only."""

    def predict(number: int) -> InstanceData:
        images = [
            torch.from_numpy(
                random_image(number + other).transpose(2, 0, 1).astype(np.float32) / 99
            )
            for other in range(2)
        ]
        with torch.no_grad():
            return model.predict(*make_batch(images))[0].pred_instances

    assert_threads_agree(predict)


def test_no_module_changes_while_it_detects(model: torch.nn.Module, paths: list[str]) -> None:
    """What a call would leave in a module, another thread's call would find there."""

    def state() -> dict[str, int]:
        return {
            f'{name}.{key}': id(value)
            for name, module in model.named_modules()
            for key, value in vars(module).items()
        }

    before = state()
    values = {name: value.clone() for name, value in model.state_dict().items()}
    detect_images(model, paths)
    inspect_image(model, paths[0])
    assert state() == before
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def resident_bytes() -> int:
    """Memory of this process."""
    return int(STATM.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@pytest.mark.skipif(not STATM.exists(), reason='needs /proc')
def test_memory_stays_flat(model: torch.nn.Module, tmp_path: Path) -> None:
    """Neither good nor broken images leave anything behind; an image is 100 kB for the model."""
    model.cfg.test_dataloader.dataset.pipeline[1].scale = (96, 96)
    broken = tmp_path / 'text.png'
    broken.write_text('no image')

    def images() -> Iterator[np.ndarray | Path]:
        while True:
            yield from (random_image(number) for number in range(9))
            yield broken

    results = iter_detections(model, images())
    assert sum(result.error is not None for result in islice(results, 50)) == 5
    before = resident_bytes()
    assert sum(1 for _ in islice(results, 150)) == 150
    assert resident_bytes() - before < 4e6
