"""The arrays behind the detections of an image: against the goldens and by pencil."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_samples import make_coco, write_coco
from helpers import (
    DATA,
    build,
    golden_keys,
    golden_model_cfg,
    inference_config,
    make_batch,
    release_state_dict,
    tiny_model_cfg,
)
from mmdet.registry import DATASETS

from mmdet_salience.apis import (
    ImageInspection,
    Objects,
    QueryPoints,
    inspect_dataset_image,
    inspect_image,
)
from mmdet_salience.apis.inspection import to_arrays

GOLDEN_SHAPE = (400, 530)  # padded to 416 x 544


@cache
def golden_arrays() -> ImageInspection:
    """Arrays of the goldens' second input, whose size is no multiple of 32."""
    model = build(golden_model_cfg())
    model.load_state_dict(release_state_dict(golden_keys()), strict=True)
    pixels = np.random.Generator(np.random.PCG64(12)).standard_normal((3, *GOLDEN_SHAPE))
    inputs, samples = make_batch([torch.from_numpy(pixels.astype(np.float32))])
    found = model.inspect(inputs, samples)
    return to_arrays(found, inputs.shape[2:], np.zeros((*GOLDEN_SHAPE, 3), np.uint8))


@cache
def golden(name: str) -> np.ndarray:
    """An array of what the release computed for it."""
    with np.load(DATA / 'forward_r18_b.npz') as arrays:
        return arrays[name]


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    """A tiny detector as init_detector returns it."""
    detector = build(tiny_model_cfg())
    detector.cfg = inference_config(tiny_model_cfg())
    return detector


def test_salience_of_the_goldens_in_the_image() -> None:
    """A cell's centre keeps its value: no shift from padding, none from resizing."""
    arrays = golden_arrays()
    for level, stride in enumerate((8, 16)):
        logits = golden(f'salience_{level}')[0, 0]
        rows, columns = GOLDEN_SHAPE[0] // stride, GOLDEN_SHAPE[1] // stride
        expected = 1 / (1 + np.exp(-logits[:rows, :columns]))
        middle = stride // 2
        around = [
            arrays.salience[level][middle + dy :: stride, middle + dx :: stride][:rows, :columns]
            for dy in (-1, 0)
            for dx in (-1, 0)
        ]
        np.testing.assert_allclose(np.mean(around, axis=0), expected, atol=0.02)


def test_tokens_and_queries_of_the_goldens() -> None:
    arrays = golden_arrays()
    for layer, tokens in enumerate(arrays.layer_tokens):
        theirs = set(golden(f'foreground_inds_{layer}')[0].tolist())
        assert len(theirs & set(tokens.tolist())) >= 0.998 * len(theirs)
        assert sum(mask.sum() for mask in arrays.layer_masks(layer)) == len(theirs)
    assert arrays.level_shapes == ((52, 68), (26, 34), (13, 17), (7, 9))
    assert (arrays.queries.tokens == golden('topk_index')[0]).mean() >= 0.98


def test_places_of_tokens() -> None:
    """Points lie in the middle of their cells."""
    arrays = golden_arrays()
    starts = np.cumsum([0, 52 * 68, 26 * 34, 13 * 17])
    for level, start in enumerate(starts):
        chosen = arrays.queries.levels == level
        assert chosen.any()
        boxes = arrays.cell_boxes(level)[arrays.queries.tokens[chosen] - start]
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        np.testing.assert_allclose(arrays.queries.points[chosen], middles)
    np.testing.assert_allclose(arrays.cell_boxes(0)[69], (8, 8, 16, 16))
    np.testing.assert_allclose(arrays.cell_boxes(3)[0], (0, 0, 544 / 9, 416 / 7))


def test_resized_image(model: torch.nn.Module, tmp_path: Path) -> None:
    """An image of 80 x 40 is enlarged to 160 x 80; all arrays are in its own pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), pixels)
    truth = Objects(np.array([[10.0, 10, 30, 30]]), np.array([1]), np.ones(1))
    arrays = inspect_image(model, path, truth)
    assert arrays.canvas_shape == (96, 160)
    assert arrays.content_shape == (80, 160)
    assert arrays.image.shape == (40, 80, 3)
    np.testing.assert_array_equal(arrays.image, pixels[..., ::-1])
    assert all(level.shape == (40, 80) for level in arrays.salience)
    # The object is 40 pixels wide after resizing, so only the finest level has to see it.
    finest, *others = arrays.salience_targets
    assert finest[20, 20] > 0.8
    assert finest[20, 20] == finest.max()
    assert finest[:, 40:].max() == 0
    assert not any(level.any() for level in others)
    assert arrays.queries.points.min() > 0
    np.testing.assert_allclose(arrays.cell_boxes(0)[:2], [(0, 0, 4, 4), (4, 0, 8, 4)])
    same = inspect_image(model, pixels, truth)
    np.testing.assert_array_equal(same.detections.bboxes, arrays.detections.bboxes)
    np.testing.assert_array_equal(same.salience[0], arrays.salience[0])


def test_candidates_and_queries(model: torch.nn.Module) -> None:
    """Redundancy removal leaves no neighbours while there are enough others."""
    pixels = np.random.default_rng(1).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    arrays = inspect_image(model, pixels)
    assert arrays.ground_truth is None and arrays.salience_targets is None
    assert len(arrays.candidates.tokens) == len(arrays.queries.tokens)
    assert arrays.candidates.tokens[0] == arrays.queries.tokens[0]
    starts = np.cumsum([0, *(rows * columns for rows, columns in arrays.level_shapes)])

    def count_neighbours(points: QueryPoints) -> int:
        """Pairs of cells of a level that share a side."""
        shapes = np.array(arrays.level_shapes)[points.levels]
        rows, columns = np.divmod(points.tokens - starts[points.levels], shapes[:, 1])
        steps = abs(rows[:, None] - rows) + abs(columns[:, None] - columns)
        return int(((steps == 1) & (points.levels[:, None] == points.levels)).sum()) // 2

    assert count_neighbours(arrays.candidates) > 0
    assert count_neighbours(arrays.queries) == 0
    found = arrays.detections
    assert (np.diff(found.scores) <= 0).all() and found.bboxes.shape == (len(found.labels), 4)


def test_image_of_a_dataset(model: torch.nn.Module, tmp_path: Path) -> None:
    write_coco(tmp_path, make_coco(2), 'val.json')
    pipeline = model.cfg.test_dataloader.dataset.pipeline
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(tmp_path),
            ann_file='val.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=('crack', 'pore')),
            test_mode=True,
            pipeline=pipeline,
        )
    )
    arrays = inspect_dataset_image(model, dataset, 0)
    assert arrays.ground_truth.bboxes.tolist() == [[4, 6, 24, 16], [30, 20, 60, 45]]
    assert arrays.ground_truth.labels.tolist() == [0, 1]
    assert len(arrays.salience_targets) == len(arrays.salience)


def test_wrong_input(model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'none\.png'):
        inspect_image(model, tmp_path / 'none.png')
    text = tmp_path / 'text.png'
    text.write_text('no image')
    with pytest.raises(ValueError, match=r'text\.png'):
        inspect_image(model, text)
    with pytest.raises(ValueError, match='Linear cannot be inspected'):
        inspect_image(torch.nn.Linear(1, 1), text)
