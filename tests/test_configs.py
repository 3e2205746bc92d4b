"""Every config loads, dumps, builds, trains a step and predicts; deltas change what they name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, build, make_batch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper

CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
FOLDER = ROOT / 'configs' / 'salience_detr'
COCO = FOLDER / 'salience-detr_r50_8xb2-12e_coco.py'
SMALL_BACKBONES = {
    'TorchvisionSwinTransformer': dict(
        embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), convert_weights=False
    ),
    'TransformersBackbone': dict(
        config=dict(hidden_sizes=(16, 32, 64, 128), depths=(1, 1, 1, 1), drop_path_rate=0.0)
    ),
    'FocalNetBackbone': dict(config=dict(embed_dim=16, depths=(1, 1, 1, 1), drop_path_rate=0.0)),
}


def load(name: str) -> Config:
    """A config of the salience_detr folder by its name."""
    return Config.fromfile(FOLDER / f'{name}.py')


def shrink(model: ConfigDict) -> ConfigDict:
    """Make a config's model small enough for a test, keeping its structure."""
    model.backbone.init_cfg = None
    if 'pretrained' in model.backbone:
        model.backbone.pretrained = None
    small = SMALL_BACKBONES.get(model.backbone.type)
    if small:
        merge(model.backbone, small)
        model.neck.in_channels = [32, 64, 128]
    model.num_queries = 20
    model.test_cfg.max_per_img = 20  # mmdet's DINO needs as many scores
    for part in (model.encoder, model.decoder):
        part.layer_cfg.ffn_cfg.feedforward_channels = 64
    return model


def merge(target: ConfigDict, values: Mapping[str, Any]) -> None:
    """Set nested values of a config."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            merge(target[key], value)
        else:
            target[key] = value


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_trains_a_step_and_predicts(path: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(path)
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
    classes = (cfg.train_dataloader.dataset.get('metainfo') or {}).get('classes') or ('a', 'b')
    model_cfg = shrink(cfg.model)
    model_cfg.bbox_head.num_classes = len(classes)
    model = build(model_cfg)
    images = [torch.randn(3, 64, 96), torch.randn(3, 80, 64)]
    batch, samples = make_batch(images, [[[5, 5, 40, 50]], []], [[0], []])
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    total, _ = model.parse_losses(model.loss(batch, samples))
    wrapper.update_params(total)
    assert torch.isfinite(total)
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2
    model.eval()
    with torch.no_grad():
        results = model.predict(batch, samples)
    assert all(len(result.pred_instances) > 0 for result in results)
    assert all(result.pred_instances.labels.max() < len(classes) for result in results)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_knows_the_batch_of_its_rate(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.auto_scale_lr.base_batch_size % cfg.train_dataloader.batch_size == 0
    machines = [part for part in path.stem.split('_') if 'xb' in part]
    if machines:
        gpus, batch = machines[0].split('-')[0].split('xb')
        assert cfg.train_dataloader.batch_size == int(batch)
        assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)


def differences(one: Any, other: Any, place: str = '') -> dict[str, tuple[Any, Any]]:
    """Places where two configs differ, with both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = {}
        for key in {**one, **other}:
            found |= differences(one.get(key), other.get(key), f'{place}.{key}')
        return found
    return {} if one == other else {place[1:]: (one, other)}


def deltas(name: str) -> dict[str, tuple[Any, Any]]:
    """What a config changes of the COCO config with ResNet-50."""
    return differences(Config.fromfile(COCO).to_dict(), load(name).to_dict())


def test_24_epochs_change_the_schedule_alone() -> None:
    found = deltas('salience-detr_r50_8xb2-24e_coco')
    assert {key: new for key, (_, new) in found.items() if key != 'param_scheduler'} == {
        'max_epochs': 24,
        'train_cfg.max_epochs': 24,
    }
    assert load('salience-detr_r50_8xb2-24e_coco').param_scheduler[1].milestones == [20]


def test_c2_to_c5_change_levels_and_table() -> None:
    found = {key: new for key, (_, new) in deltas('salience-detr_r50-c2-c5_8xb2-12e_coco').items()}
    assert found == {
        'model.feature_strides': (4, 8, 16, 32),
        'model.backbone.out_indices': (0, 1, 2, 3),
        'model.neck.in_channels': [256, 512, 1024, 2048],
        'model.encoder.background_embedding.num_embeddings': 500,
    }


@pytest.mark.parametrize('backbone', ['swin-l', 'convnext-l', 'focalnet-l'])
def test_other_backbones_change_backbone_and_neck(backbone: str) -> None:
    found = deltas(f'salience-detr_{backbone}_8xb2-12e_coco')
    decay = 'optim_wrapper.paramwise_cfg.custom_keys.layernorm.weight'
    assert (found.pop(decay, None) is not None) == (backbone == 'convnext-l')
    assert all(key.startswith(('model.backbone.', 'model.neck.in_channels')) for key in found)
    model = load(f'salience-detr_{backbone}_8xb2-12e_coco').model
    assert model.neck.in_channels == [384, 768, 1536]
    assert model.backbone.init_cfg.checkpoint.startswith('https://')


@pytest.mark.parametrize('data', ['8xb2-12e_coco', '4xb2-10000i_custom'])
def test_dinov3_changes_backbone_and_neck(data: str) -> None:
    r50 = load(f'salience-detr_r50_{data}')
    dinov3 = load(f'salience-detr_dinov3-convnext-t_{data}')
    found = differences(r50.to_dict(), dinov3.to_dict())
    assert all(key.startswith(('model.backbone.', 'model.neck.in_channels')) for key in found)
    backbone = dinov3.model.backbone
    assert backbone.pretrained == 'facebook/dinov3-convnext-tiny-pretrain-lvd1689m'
    built = MODELS.build(backbone)  # at its full size, and without the gated weights
    assert list(built.out_channels) == dinov3.model.neck.in_channels == [192, 384, 768]
    assert sum(p.numel() for p in built.parameters()) == 27_818_592
    assert built.frozen_stages == r50.model.backbone.frozen_stages == 1


@pytest.mark.parametrize('data', ['esd', 'csd', 'mssd'])
def test_defect_sets_change_the_folder_alone(data: str) -> None:
    custom = load('salience-detr_r50_4xb2-10000i_custom')
    root, moved = custom.data_root, load(f'salience-detr_r50_4xb2-10000i_{data}')
    found = differences(custom.to_dict(), moved.to_dict())
    places = {key: new for key, (old, new) in found.items() if old == root}
    assert set(places.values()) == {f'data/{data}/'}
    rest = {key: new for key, (_, new) in found.items() if key not in places}
    assert rest == {'test_dataloader.dataset.ann_file': 'annotations/test.json'}


def test_large_backbone_for_esd_is_that_of_coco() -> None:
    esd = load('salience-detr_swin-l_4xb2-10000i_esd')
    assert esd.model == load('salience-detr_swin-l_8xb2-12e_coco').model
    r50 = load('salience-detr_r50_4xb2-10000i_esd')
    found = differences(r50.to_dict(), esd.to_dict())
    assert all(key.startswith('model.') for key in found)


ABLATIONS = {
    'shared-padding': {'independent_training'},
    'binary-foreground': {'bbox_head.loss_salience', 'train_cfg.salience_assigner'},
    'layer-only': {'encoder.token_filter.level_ratios'},
    'level-only': {'encoder.token_filter.layer_ratios'},
    'no-filtering': {'encoder.token_filter.level_ratios', 'encoder.token_filter.layer_ratios'},
    'no-background': {'encoder.background_embedding'},
    'relative-background': {'encoder.background_embedding.type'},
    'no-fusion': {'token_fusion'},
    'no-redundancy-removal': {'query_selection'},
    'nms-iou-0.1': {'query_selection.iou_threshold'},
    'nms-iou-0.5': {'query_selection.iou_threshold'},
    'candidates-2x': {'query_selection.candidate_factor'},
    'candidates-8x': {'query_selection.candidate_factor'},
    'level-ratios-half': {'encoder.token_filter.level_ratios'},
    'level-ratios-finest-0.8': {'encoder.token_filter.level_ratios'},
    'layer-ratios-steep': {'encoder.token_filter.layer_ratios'},
}


def test_every_ablation_is_listed() -> None:
    names = {path.stem.split('_')[0] for path in (ROOT / 'configs' / 'ablation').glob('*.py')}
    assert names == set(ABLATIONS)


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'configs' / 'ablation').glob('*.py')), ids=lambda path: path.stem
)
def test_ablation_changes_what_it_names_alone(path: Path) -> None:
    name, rest = path.stem.split('_', 1)
    parent = FOLDER / f'salience-detr_{rest}.py'
    found = differences(Config.fromfile(parent).to_dict(), Config.fromfile(path).to_dict())
    places = ABLATIONS[name]
    parts = {key: key.removeprefix('model.') for key in found}
    for key, part in parts.items():
        assert any(part == place or part.startswith(f'{place}.') for place in places), key
    for place in places:
        assert any(part == place or part.startswith(f'{place}.') for part in parts.values()), place


def test_focus_detr_is_its_recipe() -> None:
    path = ROOT / 'configs' / 'focus_detr' / 'focus-detr_r50_8xb2-12e_coco.py'
    cfg = Config.fromfile(path)
    found = differences(Config.fromfile(COCO).to_dict(), cfg.to_dict())
    assert all(key.startswith('model.') for key in found)
    model = cfg.model
    assert model.encoder.background_embedding is model.token_fusion is None
    assert (model.encoder.token_filter.ratio, model.encoder.token_filter.extra) == (0.5, 1)
    assert 'level_ratios' not in model.encoder.token_filter
    assert model.bbox_head.loss_salience.loss_weight == 1.5
    assert model.train_cfg.salience_assigner.level_ranges[-1] == (256, 1e8)


@pytest.mark.parametrize('name', ['focus_detr/focus-detr', 'dino/dino-4scale'])
def test_rivals_train_on_equal_terms(name: str) -> None:
    for rest in ('r50_8xb2-12e_coco', 'r18_1xb8-750i_synthetic'):
        ours = load(f'salience-detr_{rest}')
        rival = Config.fromfile(ROOT / 'configs' / f'{name}_{rest}.py')
        found = differences(ours.to_dict(), rival.to_dict())
        assert all(key.startswith(('model.', 'num_l')) for key in found), sorted(found)
        for part in ('backbone', 'neck', 'data_preprocessor', 'num_queries', 'dn_cfg', 'test_cfg'):
            assert ours.model[part] == rival.model[part], part
        assert ours.model.decoder.num_layers == rival.model.decoder.num_layers
        assert ours.model.encoder.num_layers == rival.model.encoder.num_layers


def test_weights_of_the_release_by_one_override() -> None:
    cfg = Config.fromfile(COCO)
    assert cfg.model.backbone.init_cfg.checkpoint.endswith('resnet50-0676ba61.pth')
    v2 = 'https://download.pytorch.org/models/resnet50-11ad3fa6.pth'
    cfg.merge_from_dict({'model.backbone.init_cfg.checkpoint': v2})
    found = differences(Config.fromfile(COCO).to_dict(), cfg.to_dict())
    assert {key: new for key, (_, new) in found.items()} == {
        'model.backbone.init_cfg.checkpoint': v2
    }


def test_coco_config_is_the_published_recipe() -> None:
    cfg = Config.fromfile(COCO)
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.param_scheduler[1].milestones == [10]
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.model.num_queries == 900
    assert cfg.model.data_preprocessor.pad_size_divisor == 32


def test_weight_decay_and_rates_of_single_parameters() -> None:
    cfg = Config.fromfile(COCO)
    model = build(shrink(cfg.model))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    setting = {
        id(parameter): (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    expected = {
        'encoder.layers.0.ffn.layers.1.weight': (1e-4, 1e-4),
        'encoder.layers.0.ffn.layers.1.bias': (1e-4, 0.0),
        'encoder.layers.0.norms.0.weight': (1e-4, 0.0),
        'encoder.layers.0.self_attn.sampling_offsets.weight': (1e-5, 1e-4),
        'decoder.layers.0.cross_attn.sampling_offsets.bias': (1e-5, 0.0),
        'backbone.layer2.0.conv1.weight': (1e-5, 1e-4),
        'neck.convs.0.gn.weight': (1e-4, 1e-4),
    }
    parameters = dict(model.named_parameters())
    found = {name: setting[id(parameters[name])] for name in expected}
    for name, numbers in expected.items():
        assert found[name] == pytest.approx(numbers), name
    frozen = ('backbone.conv1', 'backbone.bn1', 'backbone.layer1')
    assert not any(p.requires_grad for n, p in parameters.items() if n.startswith(frozen))
