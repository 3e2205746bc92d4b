"""Optimizer groups and warm-up equal those of the authors' recipe."""

import json

import pytest
import torch
from helpers import (
    BACKBONES,
    DATA,
    ROOT,
    backbone_weights,
    build,
    golden_keys,
    golden_model_cfg,
    release_to_ours,
)
from mmdet.registry import MODELS, PARAM_SCHEDULERS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

COCO = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_8xb2-12e_coco.py'
CONVNEXT = COCO.with_name('salience-detr_convnext-l_8xb2-12e_coco.py')
LEARNING_RATE, DECAY = 1e-4, 1e-4


def expected_options(release_name: str) -> dict[str, float]:
    """The rule of the release (spec section 13)."""
    slow = ('backbone', 'sampling_offsets', 'reference_points')
    undecayed = ('norm', 'bias')
    return dict(
        lr=LEARNING_RATE * (0.1 if any(part in release_name for part in slow) else 1.0),
        weight_decay=DECAY * (0.0 if any(part in release_name for part in undecayed) else 1.0),
    )


def options_by_name(model: nn.Module, optim_wrapper: dict) -> dict[str, dict[str, float]]:
    """Learning rate and decay of every trained parameter, by our names."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optim_wrapper(model, optim_wrapper).optimizer.param_groups
    return {
        names[parameter]: {key: group[key] for key in ('lr', 'weight_decay')}
        for group in groups
        for parameter in group['params']
    }


def test_groups_of_the_coco_config_equal_the_release() -> None:
    model = build(golden_model_cfg())
    options = options_by_name(model, Config.fromfile(COCO).optim_wrapper)
    assert set(options) == {n for n, p in model.named_parameters() if p.requires_grad}
    release_names = release_to_ours(golden_keys())
    wrong = {
        name: found
        for name, found in options.items()
        if found != pytest.approx(expected_options(release_names[name]))
    }
    assert not wrong


@pytest.mark.parametrize('kind', sorted(BACKBONES))
def test_groups_of_the_other_backbones_equal_the_release(kind: str) -> None:
    keys = json.loads((DATA / f'backbone_{kind}_keys.json').read_text())
    config = CONVNEXT if kind == 'convnext' else COCO
    model = nn.ModuleDict(dict(backbone=MODELS.build(BACKBONES[kind])))
    # Each weight gets the place of its release name as its value, to be recognised after loading.
    numbered = {
        name: torch.full_like(value, list(keys).index(name))
        for name, value in backbone_weights(kind).items()
    }
    result = model.load_state_dict(numbered, strict=False)
    assert not {name for name, _ in model.named_parameters()} & set(result.missing_keys)
    options = options_by_name(model, Config.fromfile(config).optim_wrapper)
    for name, parameter in model.named_parameters():
        if name.startswith('backbone.patch_embed'):
            continue  # frozen by frozen_stages in the published model
        release_name = list(keys)[int(parameter.flatten()[0])]
        assert options[name] == pytest.approx(expected_options(release_name)), name


def test_each_option_comes_from_the_longest_name_that_has_it() -> None:
    model = nn.ModuleDict(dict(backbone=nn.Linear(2, 2), head=nn.Linear(2, 2)))
    keys = {
        'bias': dict(decay_mult=0.0),
        'backbone': dict(lr_mult=0.1),
        'backbone.bias': dict(lr_mult=0.5),
    }
    wrapper = dict(
        constructor='ByNameOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=1.0, weight_decay=2.0),
        paramwise_cfg=dict(custom_keys=keys),
    )
    assert options_by_name(model, wrapper) == {
        'backbone.weight': dict(lr=0.1, weight_decay=2.0),
        'backbone.bias': dict(lr=0.5, weight_decay=0.0),
        'head.weight': dict(lr=1.0, weight_decay=2.0),
        'head.bias': dict(lr=1.0, weight_decay=0.0),
    }


def test_rules_that_are_no_names_are_refused() -> None:
    wrapper = dict(
        constructor='ByNameOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
        paramwise_cfg=dict(norm_decay_mult=0.0),
    )
    with pytest.raises(ValueError, match=r'norm_decay_mult.*custom_keys'):
        build_optim_wrapper(nn.Linear(2, 2), wrapper)


@pytest.mark.parametrize(
    ('epoch_length', 'expected'),
    [
        # Linear from 1/1000 to 1 in 1000 steps, then constant.
        (7000, {0: 0.001, 1: 0.001 + 0.999 / 1000, 500: 0.5005, 1000: 1.0, 5000: 1.0}),
        # An epoch of five steps: four steps of warm-up.
        (5, {0: 0.001, 1: 0.25075, 2: 0.5005, 3: 0.75025, 4: 1.0, 5: 1.0, 20: 1.0}),
        (2, {0: 0.001, 1: 1.0, 2: 1.0}),
        (1, {0: 1.0, 1: 1.0}),
    ],
)
def test_warm_up_of_the_first_epoch(epoch_length: int, expected: dict[int, float]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = PARAM_SCHEDULERS.build(
        Config.fromfile(COCO).param_scheduler[0],
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
    )
    rates = {}
    for step in range(max(expected) + 1):
        rates[step] = optimizer.param_groups[0]['lr']
        optimizer.step()
        schedule.step()
    assert {step: rates[step] for step in expected} == pytest.approx(expected)


def test_a_warm_up_that_is_not_told_the_epoch_is_refused() -> None:
    cfg = Config.fromfile(COCO).param_scheduler[0]
    del cfg.convert_to_iter_based
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match='convert_to_iter_based=True'):
        PARAM_SCHEDULERS.build(cfg, default_args=dict(optimizer=optimizer))


@pytest.mark.parametrize('path', sorted(COCO.parent.glob('*e_*.py')), ids=lambda path: path.stem)
def test_schedules_by_epochs_warm_up_as_the_release(path: str) -> None:
    warm_up, decay = Config.fromfile(path).param_scheduler
    assert warm_up == dict(
        type='FirstEpochWarmupLR',
        start_factor=0.001,
        max_steps=1000,
        by_epoch=True,
        convert_to_iter_based=True,
    )
    assert decay.type == 'MultiStepLR'
