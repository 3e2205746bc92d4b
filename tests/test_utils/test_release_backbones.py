"""Whole release checkpoints with the L models' backbones load through the detector."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    BACKBONES,
    DATA,
    ROOT,
    assert_golden_features,
    backbone_weights,
    build,
    golden_keys,
    golden_model_cfg,
    inference_config,
    release_state_dict,
)
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from mmdet_salience.utils.checkpoints import COCO_CATEGORY_IDS

CHANNELS = (64, 128, 256)
Shapes = dict[str, list[int]]

# The L models: config, and how many blocks each stage has.
FULL_SIZE = {
    'convnext': ('convnext-l', (3, 3, 27, 3)),
    'focalnet': ('focalnet-l', (2, 2, 18, 2)),
    'swin': ('swin-l', (2, 2, 18, 2)),
}


def model_cfg(name: str, num_classes: int | None = 7) -> ConfigDict:
    """The goldens' model with another backbone."""
    cfg = golden_model_cfg()
    cfg.backbone = ConfigDict(BACKBONES[name])
    cfg.neck.in_channels = list(CHANNELS)
    cfg.bbox_head.num_classes = num_classes
    return cfg


def detector_keys(channels: tuple[int, ...], num_classes: int) -> Shapes:
    """Names and shapes of the release's detector without its backbone."""
    keys = {}
    for name, shape in golden_keys(num_classes).items():
        neck = re.fullmatch(r'neck\.convs\.(\d)\.0\.weight', name)
        if neck:
            shape = [shape[0], channels[min(int(neck[1]), 2)], *shape[2:]]
        if not name.startswith('backbone.'):
            keys[name] = shape
    return keys


def position_index(window: int = 7) -> Tensor:
    """Rows of the table for all pairs of places in a window, (window⁴,): a buffer of Swin."""
    place = torch.stack(torch.meshgrid(*[torch.arange(window)] * 2, indexing='ij')).flatten(1)
    step = place[:, :, None] - place[:, None] + window - 1  # 2, from, to
    return (step[0] * (2 * window - 1) + step[1]).flatten()


def position_indices(names: Mapping) -> dict[str, Tensor]:
    """The buffers that a Swin checkpoint holds beside its tables."""
    tables = [name for name in names if name.endswith('relative_position_bias_table')]
    return {name.replace('bias_table', 'index'): position_index() for name in tables}


def release(name: str, num_classes: int = 7) -> dict[str, Tensor]:
    """A whole checkpoint of the release."""
    weights = release_state_dict(detector_keys(CHANNELS, num_classes)) | backbone_weights(name)
    return weights | position_indices(weights)


@pytest.mark.parametrize('wrapper', [None, 'model'])
@pytest.mark.parametrize('name', BACKBONES)
def test_whole_checkpoints_load_strictly(tmp_path: Path, name: str, wrapper: str | None) -> None:
    weights = release(name)
    torch.save({wrapper: weights, 'epoch': 12} if wrapper else weights, tmp_path / 'release.pth')
    detector = build(model_cfg(name))
    load_checkpoint(detector, str(tmp_path / 'release.pth'), strict=True)
    assert_golden_features(name, detector.backbone)
    expected = {
        'neck.convs.2.conv.weight': 'neck.convs.2.0.weight',
        'neck.extra_convs.0.conv.weight': 'neck.convs.3.0.weight',
        'bbox_head.cls_branches.3.weight': 'transformer.encoder_class_head.weight',
    }
    state = detector.state_dict()
    for ours, theirs in expected.items():
        torch.testing.assert_close(state[ours], weights[theirs], rtol=0, atol=0)


@pytest.mark.parametrize('name', BACKBONES)
def test_nothing_is_missing_or_left_over(name: str) -> None:
    result = build(model_cfg(name)).load_state_dict(release(name), strict=False)
    assert not result.missing_keys
    assert not result.unexpected_keys


def test_position_index_is_that_of_mmdet() -> None:
    fresh = build(model_cfg('swin')).backbone.stages[0].blocks[0].attn.w_msa
    assert torch.equal(fresh.relative_position_index.flatten(), position_index())


@pytest.mark.parametrize('num_rows, num_classes', [(91, 80), (7, 7)])
@pytest.mark.parametrize('name', BACKBONES)
def test_init_detector_takes_the_classes_from_the_checkpoint(
    tmp_path: Path, name: str, num_rows: int, num_classes: int
) -> None:
    weights = release(name, num_rows)
    torch.save({'model': weights}, tmp_path / 'release.pth')
    config = inference_config(model_cfg(name, num_classes=None))
    detector = init_detector(config, str(tmp_path / 'release.pth'), palette='coco', device='cpu')
    assert_golden_features(name, detector.backbone)
    rows = list(COCO_CATEGORY_IDS) if num_rows == 91 else list(range(num_rows))
    assert detector.bbox_head.num_classes == num_classes == len(rows)
    for ours, theirs in (
        ('bbox_head.cls_branches.0.bias', 'transformer.decoder.class_head.0.bias'),
        ('dn_query_generator.label_embedding.weight', 'denoising_generator.label_encoder.weight'),
    ):
        torch.testing.assert_close(detector.state_dict()[ours], weights[theirs][rows])
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    found = inference_detector(detector, image).pred_instances
    assert len(found) == 300
    assert found.labels.max() < num_classes


def repeat_blocks(name: str, shape: list[int], depths: tuple[int, ...]) -> Iterator[tuple]:
    """Names and shapes of a full-size backbone that a small one's entry stands for."""
    block = re.match(r'(.*\.(?:features|layers)\.(\d+)\.(?:blocks\.)?)(\d+)\.', name)
    stage = int(block[2]) if block else 0
    if block and '.features.' in name:  # stages and what links them alternate
        stage, block = stage // 2, block if stage % 2 else None
    widened = [6 * size if size % 32 == 0 else size for size in shape]  # 32 channels become 192
    if name.endswith('relative_position_bias_table'):
        widened = [shape[0], 3 * shape[1]]  # 2 heads become 6
    elif '.modulation.f.' in name:  # queries, contexts and a gate for each of 4 + 1 levels
        widened[0] = 6 * (shape[0] - 5) + 5
    if block is None:
        yield name, widened
    elif block[3] == '0':
        for index in range(depths[stage]):
            yield f'{block[1]}{index}.{name[block.end() :]}', widened


def repeat_decoder(name: str, shape: list[int], num_layers: int = 6) -> Iterator[tuple]:
    """Names and shapes of the full-size detector that a small one's entry stands for."""
    widened = [2048 if 'linear' in name and size == 512 else size for size in shape]
    if name == 'transformer.tgt_embed.weight':
        widened = [900, 256]
    numbered = r'(transformer\.decoder\.(?:layers|class_head|bbox_head)\.)(\d)(.*)'
    layer = re.fullmatch(numbered, name)
    if layer is None:
        yield name, widened
    elif layer[2] == '0':
        for index in range(num_layers):
            yield f'{layer[1]}{index}{layer[3]}', widened


def full_size_weights(name: str) -> dict[str, Tensor]:
    """A full-size checkpoint without numbers, derived from the small ones."""
    depths = FULL_SIZE[name][1]
    keys: Shapes = {}
    for entry in detector_keys((384, 768, 1536), 91).items():
        keys.update(repeat_decoder(*entry))
    for entry in json.loads((DATA / f'backbone_{name}_keys.json').read_text()).items():
        keys.update(repeat_blocks(*entry, depths))
    weights = {key: torch.empty(shape, device='meta') for key, shape in keys.items()}
    return weights | {key: x.to('meta') for key, x in position_indices(weights).items()}


def full_size_model(name: str) -> nn.Module:
    """The detector of an L config, without numbers."""
    path = ROOT / 'configs' / 'salience_detr' / f'salience-detr_{FULL_SIZE[name][0]}_8xb2-12e_coco'
    cfg = Config.fromfile(path.with_name(path.name + '.py')).model
    on_cpu = partial(torch.linspace, device='cpu')  # mmdet's Swin reads its drop rates
    with mock.patch('torch.linspace', on_cpu), torch.device('meta'):
        return MODELS.build(cfg)


@pytest.mark.parametrize('name', FULL_SIZE)
@pytest.mark.filterwarnings('ignore:.*no-op')
def test_names_and_shapes_of_the_full_size_models(name: str) -> None:
    detector = full_size_model(name)
    detector.load_state_dict(full_size_weights(name), strict=True)
    assert detector.bbox_head.num_classes == 80
