"""Release checkpoints load wherever MMDetection loads one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import build, golden_keys, golden_model_cfg, release_state_dict, tiny_model_cfg
from mmdet.apis import inference_detector, init_detector
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor

from mmdet_salience.utils.checkpoints import COCO_CATEGORY_IDS

CLASS_WEIGHT = 'bbox_head.cls_branches.{}.weight'


def release(num_classes: int = 7) -> dict[str, Tensor]:
    """A release checkpoint of the goldens' model with any number of class rows."""
    keys = {
        name: [num_classes, *shape[1:]]
        if 'class_head' in name or 'mcsp' in name or 'label' in name
        else shape
        for name, shape in golden_keys().items()
    }
    return release_state_dict(keys)


def model(num_classes: int = 7) -> torch.nn.Module:
    """The goldens' model with any number of classes."""
    cfg = golden_model_cfg()
    cfg.bbox_head.num_classes = num_classes
    return build(cfg)


def save(path: Path, content: dict) -> str:
    """Write a checkpoint; returns its path."""
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize('wrapper', [None, 'model', 'state_dict'])
def test_every_wrapping_loads_completely(tmp_path: Path, wrapper: str | None) -> None:
    weights = release()
    content = weights if wrapper is None else {wrapper: weights, 'epoch': 12}
    ours = model()
    load_checkpoint(ours, save(tmp_path / 'release.pth', content), strict=True)
    state = ours.state_dict()
    expected = {
        'query_embedding.weight': 'transformer.tgt_embed.weight',
        'decoder.layers.1.norms.0.weight': 'transformer.decoder.layers.1.norm2.weight',
        'bbox_head.reg_branches.3.4.bias': 'transformer.encoder_bbox_head.layers.2.bias',
        'neck.extra_convs.0.conv.weight': 'neck.convs.3.0.weight',
        'token_fusion.bottom_up_blocks.2.units.1.gate.excite.2.weight': (
            'transformer.neck.pan_blocks.2.bottlenecks.1.se_module.se_module.2.weight'
        ),
    }
    for name, source in expected.items():
        torch.testing.assert_close(state[name], weights[source], rtol=0, atol=0)


def test_91_rows_become_80_by_category_id(tmp_path: Path) -> None:
    unused = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
    assert [i for i in range(1, 91) if i not in unused] == list(COCO_CATEGORY_IDS)
    weights = release(91)
    ours = model(80)
    load_checkpoint(ours, save(tmp_path / 'release.pth', weights), strict=True)
    rows = ours.state_dict()[CLASS_WEIGHT.format(3)]
    source = weights['transformer.encoder_class_head.weight']
    # COCO's ids: person 1, fire hydrant 11, stop sign 13 (12 is unused), toothbrush 90.
    classes = CocoDataset.METAINFO['classes']
    for name, category_id in (
        ('person', 1),
        ('fire hydrant', 11),
        ('stop sign', 13),
        ('toothbrush', 90),
    ):
        torch.testing.assert_close(rows[classes.index(name)], source[category_id], rtol=0, atol=0)
    embedding = ours.dn_query_generator.label_embedding.weight
    expected = weights['denoising_generator.label_encoder.weight'][list(COCO_CATEGORY_IDS)]
    torch.testing.assert_close(embedding.detach(), expected, rtol=0, atol=0)


def test_91_rows_stay_for_91_classes(tmp_path: Path) -> None:
    ours = model(91)
    weights = release(91)
    load_checkpoint(ours, save(tmp_path / 'release.pth', weights), strict=True)
    torch.testing.assert_close(
        ours.state_dict()[CLASS_WEIGHT.format(0)],
        weights['transformer.decoder.class_head.0.weight'],
    )


def test_other_class_numbers_start_fresh_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = []
    monkeypatch.setattr(
        'mmdet_salience.utils.checkpoints.print_log', lambda text, **_: messages.append(text)
    )
    ours = model(3)
    before = ours.state_dict()[CLASS_WEIGHT.format(0)].clone()
    weights = release(91)
    load_checkpoint(ours, save(tmp_path / 'release.pth', weights))
    torch.testing.assert_close(ours.state_dict()[CLASS_WEIGHT.format(0)], before)
    torch.testing.assert_close(
        ours.query_embedding.weight.detach(), weights['transformer.tgt_embed.weight']
    )
    assert len(messages) == 1
    for name in ('bbox_head.cls_branches.0.weight', 'dn_query_generator.label_embedding.weight'):
        assert name in messages[0]


def foreign() -> dict[str, tuple[dict, str]]:
    """Checkpoints that are neither ours nor the release's, and how the error calls them."""
    ours = build(tiny_model_cfg()).state_dict()
    parts = ('salience_predictor', 'token_fusion')
    dino = {name: value for name, value in ours.items() if not name.startswith(parts)}
    resnet = {
        name.removeprefix('backbone.'): value
        for name, value in ours.items()
        if name.startswith('backbone.')
    }
    return {
        'dino': (dino, 'DETR of MMDetection without salience'),
        'resnet': (resnet, 'bare ResNet backbone'),
        'empty': ({}, 'empty checkpoint'),
        'other': ({'stem.weight': torch.zeros(1)}, 'weights under stem'),
    }


@pytest.mark.parametrize('kind', ['dino', 'resnet', 'empty', 'other'])
def test_foreign_checkpoints_are_named(tmp_path: Path, kind: str) -> None:
    content, description = foreign()[kind]
    path = save(tmp_path / 'foreign.pth', {'state_dict': content})
    with pytest.raises(ValueError, match=f'{description}.*salience_predictor.*Expected'):
        load_checkpoint(build(tiny_model_cfg()), path)


def test_own_checkpoints_round_trip(tmp_path: Path) -> None:
    first, second = build(tiny_model_cfg(), seed=0), build(tiny_model_cfg(), seed=1)
    path = save(tmp_path / 'own.pth', {'state_dict': first.state_dict(), 'meta': {}})
    load_checkpoint(second, path, strict=True)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)


def test_a_wrapped_model_loads(tmp_path: Path) -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = model()

    wrapped = Wrapper()
    weights = {f'module.{name}': value for name, value in release().items()}
    wrapped.load_state_dict(weights, strict=True)
    embedding = weights['module.transformer.tgt_embed.weight']
    assert torch.equal(wrapped.module.query_embedding.weight, embedding)


def test_init_detector_with_a_release_checkpoint(tmp_path: Path) -> None:
    path = save(tmp_path / 'release.pth', {'model': release(91)})
    cfg = golden_model_cfg()
    cfg.bbox_head.num_classes = 80
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(160, 160), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('ori_shape', 'img_shape', 'scale_factor')),
    ]
    config = Config(
        dict(
            default_scope='mmdet',
            custom_imports=dict(imports=['mmdet_salience'], allow_failed_imports=False),
            model=cfg,
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    detector = init_detector(config, path, palette='coco', device='cpu')
    assert len(detector.dataset_meta['classes']) == 80
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    found = inference_detector(detector, image).pred_instances
    assert len(found) == 300
    assert found.bboxes[:, 2].max() <= 120.01
