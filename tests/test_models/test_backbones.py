"""The other backbones against the goldens, and their switches."""

from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers import BACKBONES, assert_golden_features, backbone_weights
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import Tensor, nn

IMAGE = (1, 3, 64, 96)


def build(name: str, **settings: object) -> nn.Module:
    """Build a golden's backbone."""
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(BACKBONES[name], **settings))


@pytest.mark.parametrize('name', BACKBONES)
def test_release_weights_give_the_release_features(name: str) -> None:
    backbone = build(name)
    weights = {key.removeprefix('backbone.'): x for key, x in backbone_weights(name).items()}
    missing, unexpected = backbone.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.endswith('relative_position_index') for key in missing)
    assert_golden_features(name, backbone)


def library_file(name: str) -> Mapping:
    """The same weights as the file that the backbone's authors publish, classifier included."""
    weights = {}
    for key, value in backbone_weights(name).items():
        key = key.removeprefix('backbone.').removeprefix('0.')
        if not key.startswith('1.'):
            weights[key] = value
    weights |= {'head.weight': torch.ones(3, 8), 'norm.weight': torch.ones(8)}
    if name == 'swin':
        weights = microsoft_swin(weights)
    return weights if name == 'convnext' else {'model': weights}


def microsoft_swin(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn torchvision's names of Swin into the original authors'."""
    renamed = {}
    for key, value in weights.items():
        parts = key.split('.')
        if parts[:2] == ['features', '0']:
            key = f'patch_embed.{"proj" if parts[2] == "0" else "norm"}.{parts[3]}'
        elif parts[0] == 'features' and int(parts[1]) % 2:
            rest = '.'.join(parts[3:]).replace('mlp.0', 'mlp.fc1').replace('mlp.3', 'mlp.fc2')
            key = f'layers.{int(parts[1]) // 2}.blocks.{parts[2]}.{rest}'
        elif parts[0] == 'features':
            key = f'layers.{int(parts[1]) // 2 - 1}.downsample.{".".join(parts[2:])}'
        renamed[key] = value
    return renamed


@pytest.mark.parametrize('name', BACKBONES)
def test_published_files_load_through_init_cfg(name: str, tmp_path: Path) -> None:
    torch.save(library_file(name), tmp_path / 'weights.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    settings = dict(convert_weights=True) if name == 'swin' else {}
    backbone = build(name, init_cfg=init_cfg, **settings)
    backbone.init_weights()
    if name == 'focalnet':  # the release's norms are not the library's
        norms = {key: x for key, x in backbone_weights(name).items() if '.1.norm' in key}
        for index, norm in enumerate(backbone.output_norms):
            norm.weight.data = norms[f'backbone.1.norm{index + 1}.weight']
            norm.bias.data = norms[f'backbone.1.norm{index + 1}.bias']
    assert_golden_features(name, backbone)


@pytest.mark.parametrize('name', BACKBONES)
def test_frozen_stages_keep_still(name: str) -> None:
    backbone = build(name, frozen_stages=1)
    backbone.train()
    sum(x.sum() for x in backbone(torch.randn(IMAGE))).backward()
    stem = backbone.patch_embed if name == 'swin' else backbone.stem
    for module in (stem, backbone.stages[0]):
        assert not module.training
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
    trained = [
        parameter
        for stage in backbone.stages[1:]
        for key, parameter in stage.named_parameters()
        if not (stage is backbone.stages[1] and key.startswith('downsampling_layer'))
    ]
    assert backbone.stages[1].training
    assert trained and all(p.grad is not None for p in trained)


@pytest.mark.parametrize('name', ['convnext', 'focalnet'])
def test_out_indices_and_channels(name: str) -> None:
    backbone = build(name, out_indices=(0, 2)).eval()
    outputs = backbone(torch.randn(IMAGE))
    assert [tuple(x.shape) for x in outputs] == [(1, 32, 16, 24), (1, 128, 4, 6)]
    assert backbone.out_channels == (32, 128)


def test_checkpointing_changes_no_gradient() -> None:
    image = torch.randn(IMAGE)
    gradients = []
    for with_cp in (False, True):
        backbone = build('focalnet', with_cp=with_cp)
        backbone.train()
        sum(x.square().sum() for x in backbone(image)).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for plain, saved in zip(*gradients, strict=True):
        torch.testing.assert_close(saved, plain)


def test_norm_eval_keeps_statistics() -> None:
    resnet = dict(
        type='TransformersBackbone',
        config=dict(
            model_type='resnet', embedding_size=8, hidden_sizes=(8, 8, 16, 16), depths=(1, 1, 1, 1)
        ),
        out_indices=(1, 2),
    )
    image = torch.randn(IMAGE)
    for norm_eval in (True, False):
        backbone = MODELS.build(dict(resnet, norm_eval=norm_eval))
        before = {key: value.clone() for key, value in backbone.named_buffers()}
        backbone.train()
        backbone(image)
        still = all(torch.equal(before[key], value) for key, value in backbone.named_buffers())
        assert still is norm_eval


def test_output_norm_of_the_library() -> None:
    with_norm = build('convnext', output_norm=True).eval()
    outputs = with_norm(torch.randn(IMAGE))
    assert all(x.mean(1).abs().max() < 1e-5 for x in outputs)
    assert all(abs(x.std(1, unbiased=False).mean() - 1) < 0.05 for x in outputs)
    without = build('convnext', output_norm=False).eval()
    assert any(x.mean(1).abs().max() > 1e-2 for x in without(torch.randn(IMAGE)))


def test_pretrained_folder_survives_init_weights(tmp_path: Path) -> None:
    source = build('convnext').eval()
    source.model.save_pretrained(tmp_path)
    config = dict(type='TransformersBackbone', pretrained=str(tmp_path), output_norm=False)
    backbone = MODELS.build(ConfigDict(config))
    backbone.init_weights()
    image = torch.randn(IMAGE)
    for ours, theirs in zip(backbone.eval()(image), source(image), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match='nothing'):
        build('convnext', config=dict(model_type='nothing'))
    with pytest.raises(ValueError, match=r'unknown depth; it has .*depths'):
        build('convnext', config=dict(model_type='convnext', depth=3))
    with pytest.raises(ValueError, match='no norms of its outputs'):
        MODELS.build(
            dict(type='TransformersBackbone', config=dict(model_type='resnet'), output_norm=True)
        )
    with pytest.raises(ValueError, match='leave with_cp out'):
        build('convnext', with_cp=True)
    with pytest.raises(ValueError, match='frozen_stages=5'):
        build('convnext', frozen_stages=5)
    with pytest.raises(ValueError, match='not both'):
        build('convnext', pretrained='x', init_cfg=dict(type='Pretrained', checkpoint='y'))
    with pytest.raises(FileNotFoundError, match=r'no/such/folder.*check the name'):
        build('convnext', pretrained='no/such/folder').init_weights()


def test_missing_library_is_named() -> None:
    hidden = {'transformers': None}
    with mock.patch.dict('sys.modules', hidden), pytest.raises(ImportError, match='pip install'):
        build('convnext')


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({'conv1.weight': torch.ones(2)}, tmp_path / 'resnet.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth'))
    for name in BACKBONES:
        backbone = build(name, init_cfg=init_cfg)
        with pytest.raises(ValueError, match='none of the weights of'):
            backbone.init_weights()
