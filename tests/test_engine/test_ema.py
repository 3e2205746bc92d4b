"""Averaged weights: what they hold, and what validation, checkpoints and resuming make of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from helpers import (
    ROOT,
    build,
    golden_keys,
    golden_model_cfg,
    release_state_dict,
    tiny_model_cfg,
)
from mmengine.config import Config
from mmengine.registry import HOOKS
from test_resume import assert_same_state
from torch import Tensor
from toy_training import Recorder, ToyModel, crash, make_runner, run

from mmdet_salience.engine.hooks import AnnealedEMAHook
from mmdet_salience.utils.safe_load import load_safely

EMA = dict(type='AnnealedEMAHook', gamma=2)
STEPS = 12  # of the toy training


class WeightRecorder(Recorder):
    """Keeps the trained weights after every step, and those that each validation used."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[dict[str, Tensor]] = []
        self.used: list[dict[str, Tensor]] = []

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Record a step."""
        super().after_train_iter(runner, *args, **kwargs)
        self.trained.append(weights(runner.model))

    def after_val_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Record the first batch of a validation."""
        if batch_idx == 0:
            self.used.append(weights(runner.model))


def weights(model: ToyModel) -> dict[str, Tensor]:
    """Copies of a model's parameters and running statistics."""
    state = model.state_dict()
    return {name: value.clone() for name, value in state.items() if value.is_floating_point()}


def test_validation_and_checkpoints_use_the_average(tmp_path: Path) -> None:
    recorder = WeightRecorder()
    make_runner(tmp_path, recorder, ema=EMA).train()
    average, averages = recorder.trained[0], [recorder.trained[0]]
    for number, trained in enumerate(recorder.trained[1:], start=1):
        momentum = 2 / (2 + number)
        average = {name: value.lerp(trained[name], momentum) for name, value in average.items()}
        averages.append(average)
    for used, step in zip(recorder.used, (4, 8, 12), strict=True):
        torch.testing.assert_close(used, averages[step - 1])
    saved = load_safely(tmp_path / f'iter_{STEPS}.pth')
    for name, value in average.items():
        torch.testing.assert_close(saved['state_dict'][name], value)
        assert torch.equal(saved['ema_state_dict'][f'module.{name}'], recorder.trained[-1][name])


def test_resumed_average_equals_that_of_a_training_without_a_stop(tmp_path: Path) -> None:
    run(tmp_path / 'whole', ema=EMA)
    run(tmp_path / 'parts', 7, crash, ema=EMA)
    run(tmp_path / 'parts', ema=EMA, resume=True)
    name = f'iter_{STEPS}.pth'
    assert_same_state(tmp_path / 'whole' / name, tmp_path / 'parts' / name)


def test_average_begins_with_the_weights_that_training_begins_with(tmp_path: Path) -> None:
    weight = torch.full((1, 4), 3.0)
    torch.save({**ToyModel().state_dict(), 'layer.weight': weight}, tmp_path / 'start.pth')
    recorder = WeightRecorder()
    runner = make_runner(tmp_path, recorder, ema=EMA, load_from=str(tmp_path / 'start.pth'))
    stop = mock.patch.object(type(runner.train_loop), 'run_iter', side_effect=KeyboardInterrupt)
    with stop, pytest.raises(KeyboardInterrupt):
        runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, AnnealedEMAHook))
    assert torch.equal(hook.ema_model.module.layer.weight, weight)


def test_release_checkpoints_can_be_averaged() -> None:
    model = build(golden_model_cfg())
    hook = AnnealedEMAHook()
    runner = SimpleNamespace(model=model, _resume=False, max_iters=1)
    hook.before_run(runner)
    checkpoint = dict(model=release_state_dict(golden_keys()))
    hook.after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint)
    hook.before_train(runner)
    for ours, average in zip(model.parameters(), hook.ema_model.module.parameters(), strict=True):
        assert torch.equal(ours, average)


@pytest.mark.parametrize('num_classes', [1, 3])
@pytest.mark.parametrize('update_buffers', [True, False])
def test_classes_of_a_checkpoint_are_averaged(num_classes: int, update_buffers: bool) -> None:
    """Their weights are resized after the average was made."""
    cfg = tiny_model_cfg()
    cfg.bbox_head.num_classes = num_classes
    state = build(cfg).state_dict()
    cfg.bbox_head.num_classes = None
    model = build(cfg)
    hook = AnnealedEMAHook(update_buffers=update_buffers)
    hook.before_run(SimpleNamespace(model=model))
    model.load_state_dict(state)
    hook.before_train(SimpleNamespace(max_iters=1))
    for _ in range(2):
        with torch.no_grad():
            model.bbox_head.cls_branches[0].weight += 1
        hook.ema_model.update_parameters(model)
    ours, average = (m.bbox_head.cls_branches[0].weight for m in (model, hook.ema_model.module))
    # The first update copies; the second has the momentum 10 / 11.
    torch.testing.assert_close(average, ours - 1 + 10 / 11)


def test_testing_uses_the_loaded_weights(tmp_path: Path) -> None:
    """They are the average already; the hook must not replace them."""
    run(tmp_path, ema=EMA)
    saved = load_safely(tmp_path / f'iter_{STEPS}.pth')['state_dict']
    recorder = WeightRecorder()
    path = str(tmp_path / f'iter_{STEPS}.pth')
    runner = make_runner(tmp_path / 'again', recorder, ema=EMA, load_from=path)
    runner.val()
    assert all(torch.equal(value, saved[name]) for name, value in recorder.used[0].items())


def test_one_option_switches_it_on_in_every_config() -> None:
    paths = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
    assert len(paths) > 20
    for path in paths:
        cfg = Config.fromfile(path)
        before = set(cfg.default_hooks)
        cfg.merge_from_dict({'default_hooks.ema.type': 'AnnealedEMAHook'})
        assert isinstance(HOOKS.build(cfg.default_hooks.ema), AnnealedEMAHook), path
        assert set(cfg.default_hooks) - before == {'ema'}, path
        assert cfg.default_hooks.checkpoint.type == 'CheckpointHook'
