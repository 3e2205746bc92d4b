"""Every config loads, builds, trains a step and predicts."""

from pathlib import Path

import pytest
import torch
from helpers import ROOT, build, make_batch
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper

CONFIGS = sorted((ROOT / 'configs').glob('salience_detr/*.py'))
COCO = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_8xb2-12e_coco.py'


def shrink(model: ConfigDict) -> ConfigDict:
    """Make a config's model small enough for a test, keeping its structure."""
    model.backbone.init_cfg = None
    model.num_queries = 20
    for part in (model.encoder, model.decoder):
        part.layer_cfg.ffn_cfg.feedforward_channels = 64
    return model


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_trains_a_step_and_predicts(path: Path) -> None:
    cfg = Config.fromfile(path)
    model = build(shrink(cfg.model))
    images = [torch.randn(3, 64, 96), torch.randn(3, 80, 64)]
    batch, samples = make_batch(images, [[[5, 5, 40, 50]], []], [[0], []])
    model.train()
    total, _ = model.parse_losses(model.loss(batch, samples))
    total.backward()
    assert torch.isfinite(total)
    model.eval()
    with torch.no_grad():
        results = model.predict(batch, samples)
    assert all(len(result.pred_instances) > 0 for result in results)
    classes = cfg.train_dataloader.dataset.get('metainfo', {}).get('classes')
    if classes is not None:
        assert len(classes) == cfg.model.bbox_head.num_classes


def test_coco_config_is_the_published_recipe() -> None:
    cfg = Config.fromfile(COCO)
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.param_scheduler[0].milestones == [10]
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
        'neck.convs.0.gn.weight': (1e-4, 0.0),
    }
    parameters = dict(model.named_parameters())
    found = {name: setting[id(parameters[name])] for name in expected}
    for name, numbers in expected.items():
        assert found[name] == pytest.approx(numbers), name
    frozen = ('backbone.conv1', 'backbone.bn1', 'backbone.layer1')
    assert not any(p.requires_grad for n, p in parameters.items() if n.startswith(frozen))
