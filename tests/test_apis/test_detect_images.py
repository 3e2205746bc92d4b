"""Detection in many images of which some are broken."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from helpers import build, inference_config, tiny_model_cfg
from mmdet.apis import inference_detector
from mmdet.structures import DetDataSample

from mmdet_salience.apis import DetInferencer, detect_images, inspect_image, iter_detections

SIZES = ((64, 96), (80, 64), (48, 120), (33, 40))


class Files(NamedTuple):
    """Images by their state: readable ones of different sizes, and broken ones with a reason."""

    good: list[str]
    broken: dict[str, str]


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    """A tiny detector as init_detector returns it."""
    detector = build(tiny_model_cfg())
    detector.cfg = inference_config(tiny_model_cfg())
    return detector


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files of every kind."""
    root = tmp_path_factory.mktemp('files')
    source = np.random.default_rng(0)
    good = []
    for number, size in enumerate(SIZES):
        good.append(str(root / f'{number}.jpg'))
        cv2.imwrite(good[-1], source.integers(0, 256, (*size, 3), dtype=np.uint8))
    whole = Path(good[0]).read_bytes()
    (root / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    (root / 'text.png').write_text('no image')
    (root / 'empty.png').touch()
    (root / 'folder.png').mkdir()
    reasons = {
        'cut.jpg': 'cut off',
        'text.png': 'not a readable image',
        'empty.png': 'the file is empty',
        'folder.png': 'it is a folder',
        'none.png': 'there is no such file',
    }
    return Files(good, {str(root / name): reason for name, reason in reasons.items()})


def assert_same(one: DetDataSample, other: DetDataSample) -> None:
    """Compare detections."""
    assert one.ori_shape == other.ori_shape
    for key in ('scores', 'bboxes'):
        torch.testing.assert_close(
            one.pred_instances[key], other.pred_instances[key], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize('batch_size', [1, 3, 20])
def test_broken_images_cost_only_their_own_results(
    model: torch.nn.Module, files: Files, batch_size: int
) -> None:
    mixed = [files.good[0], *files.broken, *files.good[1:]]
    results = detect_images(model, mixed, batch_size)
    assert [result.path for result in results] == mixed
    for path, detections, error in results:
        if path in files.broken:
            assert detections is None
            assert error.startswith(path) and files.broken[path] in error and '\n' not in error
        else:
            assert error is None
            assert_same(detections, inference_detector(model, path))


def test_only_broken_images(model: torch.nn.Module, files: Files) -> None:
    with mock.patch.object(model, 'test_step') as step:
        results = detect_images(model, list(files.broken))
    step.assert_not_called()
    assert [result.error is None for result in results] == [False] * len(files.broken)
    assert detect_images(model, []) == []


def test_arrays_beside_files(model: torch.nn.Module, files: Files) -> None:
    pixels = cv2.imread(files.good[0])
    shapes = (pixels[..., 0], pixels[:0], np.zeros((20, 20, 4), np.uint8))
    path, array, *wrong = detect_images(model, [Path(files.good[0]), pixels, *shapes])
    assert (path.path, array.path) == (files.good[0], '')
    assert_same(path.detections, array.detections)
    for result, pixels in zip(wrong, shapes, strict=True):
        assert result.detections is None
        assert result.error.startswith(f'array of shape {pixels.shape}: must be (height, width, 3)')


def test_images_are_taken_as_they_are_needed(model: torch.nn.Module, files: Files) -> None:
    taken = []

    def take() -> Iterator[str]:
        for path in files.good:
            taken.append(path)
            yield path

    results = iter_detections(model, take(), batch_size=2)
    assert taken == []
    assert next(results).path == files.good[0]
    assert taken == files.good[:2]
    assert [result.path for result in results] == files.good[1:]


def test_the_config_stays_and_may_have_been_changed(model: torch.nn.Module, files: Files) -> None:
    """MMDetection's inference exchanges the loader in the config of a model it has an array for."""
    before = deepcopy(model.cfg.test_dataloader)
    expected = detect_images(model, [files.good[0]])[0].detections
    assert model.cfg.test_dataloader == before
    try:
        inference_detector(model, cv2.imread(files.good[0]))
        assert model.cfg.test_dataloader != before
        assert_same(detect_images(model, [files.good[0]])[0].detections, expected)
        inspected = inspect_image(model, files.good[0]).detections
    finally:
        model.cfg = inference_config(tiny_model_cfg())
    np.testing.assert_allclose(inspected.scores, expected.pred_instances.scores, atol=1e-5)


def test_a_failing_transform_is_the_image_s_error(model: torch.nn.Module, files: Files) -> None:
    cfg = inference_config(tiny_model_cfg())
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline.insert(1, dict(type='CenterCrop', crop_size=(50, 50), auto_pad=False))
    pipeline.insert(2, dict(type='Normalize', mean=[0, 0], std=[1, 1]))
    with mock.patch.object(model, 'cfg', cfg):
        result = detect_images(model, files.good[:1])[0]
    assert result.error.startswith(f'{files.good[0]}: the test pipeline fails: ')


def test_failures_of_the_model_are_no_image_s_error(model: torch.nn.Module, files: Files) -> None:
    with (
        mock.patch.object(model, 'test_step', side_effect=RuntimeError('out of memory')),
        pytest.raises(RuntimeError, match='out of memory'),
    ):
        detect_images(model, files.good)


def test_wrong_arguments(model: torch.nn.Module, files: Files) -> None:
    with pytest.raises(ValueError, match='put a single one into a list'):
        detect_images(model, files.good[0])
    with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
        iter_detections(model, files.good, 0)  # without taking the first result
    with pytest.raises(ValueError, match='no cfg; take it from mmdet'):
        detect_images(torch.nn.Linear(1, 1), files.good)
    model.train()
    try:
        with pytest.raises(ValueError, match=r'call model\.eval\(\) first'):
            detect_images(model, files.good)
    finally:
        model.eval()


def test_inferencer_skips_or_names_broken_images(files: Files) -> None:
    cfg = inference_config(tiny_model_cfg())
    options = dict(device='cpu', show_progress=False)
    folder = str(Path(files.good[0]).parent)
    with pytest.raises(ValueError, match=r'cut\.jpg: cut off.*skip_unreadable=True'):
        DetInferencer(cfg, **options)(str(Path(folder, 'cut.jpg')), no_save_vis=True)
    inferencer = DetInferencer(cfg, skip_unreadable=True, **options)
    with pytest.warns(UserWarning, match='left out: ') as warned:
        found = inferencer(folder, batch_size=2, no_save_vis=True, return_datasamples=True)
    samples = {sample.ori_shape: sample for sample in found['predictions']}
    assert sorted(samples) == sorted(SIZES)
    listed = {'cut.jpg', 'text.png', 'empty.png'}  # MMDetection lists files of a folder only
    named = {name for name in files.broken for w in warned if name in str(w.message)}
    assert {Path(name).name for name in named} == listed
    for result in detect_images(inferencer.model, files.good):
        assert_same(result.detections, samples[result.detections.ori_shape])
