"""A resumed run whose config has another schedule says so, with both values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from toy_training import crash, make_runner, read_log, run

from mmdet_salience.engine import resumed_schedule


def resumed_log(folder: Path, change: Callable[[Any], None], by_epoch: bool = False) -> str:
    """Log of a run that is resumed with a changed config."""
    run(folder, at=8, action=crash, by_epoch=by_epoch)
    runner = make_runner(folder, resume='auto', by_epoch=by_epoch)
    change(runner)
    runner.train()
    return read_log(folder)


@pytest.mark.parametrize('by_epoch', [False, True])
def test_the_same_config_says_nothing(tmp_path: Path, by_epoch: bool) -> None:
    log = resumed_log(tmp_path, lambda runner: None, by_epoch)
    assert 'resumed checkpoint' not in log


def set_schedule(index: int, **settings: Any) -> Callable[[Any], None]:
    """A change of a schedule."""
    return lambda runner: runner.param_schedulers[index].update(settings)


def set_optimizer(**settings: Any) -> Callable[[Any], None]:
    """A change of the optimizer."""
    return lambda runner: runner.optim_wrapper['optimizer'].update(settings)


def set_loop(**settings: Any) -> Callable[[Any], None]:
    """A change of the training loop."""
    return lambda runner: runner._train_loop.update(settings)


def add_schedule(runner: Any) -> None:
    """One schedule more."""
    runner.param_schedulers.append(dict(type='ConstantLR', factor=0.5, by_epoch=False, end=3))


def replace_schedule(runner: Any) -> None:
    """A schedule of another kind."""
    runner.param_schedulers[1] = dict(type='CosineAnnealingLR', T_max=9, by_epoch=False)


NO_EFFECT = ', which has no effect'
CHANGES = {
    'milestones': (
        set_schedule(1, milestones=[3, 5]),
        'param_scheduler[1] (MultiStepLR) milestones: [2] in the checkpoint, [3, 5] in the config'
        + NO_EFFECT,
    ),
    'factor': (
        set_schedule(1, gamma=0.1),
        'param_scheduler[1] (MultiStepLR) gamma: 0.5 in the checkpoint, 0.1 in the config'
        + NO_EFFECT,
    ),
    'end of the warm-up': (
        set_schedule(0, end=4),
        'param_scheduler[0] (LinearLR) end: 6 in the checkpoint, 4 in the config' + NO_EFFECT,
    ),
    'one less': (
        lambda runner: runner.param_schedulers.pop(),
        'the number of param_scheduler: 2 in the checkpoint, 1 in the config, which ends the',
    ),
    'rate': (
        set_optimizer(lr=0.2),
        'optim_wrapper.optimizer.lr: 0.1 in the checkpoint, 0.2 in the config' + NO_EFFECT,
    ),
    'weight decay': (
        set_optimizer(weight_decay=0.5),
        'optim_wrapper.optimizer.weight_decay: 0.01 in the checkpoint, 0.5 in the config'
        + NO_EFFECT,
    ),
    'one more': (
        add_schedule,
        'the number of param_scheduler: 2 in the checkpoint, 3 in the config, which starts the',
    ),
    'another kind': (
        replace_schedule,
        'param_scheduler[1]: one with gamma, milestones in the checkpoint, CosineAnnealingLR in ',
    ),
    'more steps': (
        set_loop(max_iters=14),
        'train_cfg.max_iters: 12 in the checkpoint, 14 in the config, which counts',
    ),
}


@pytest.mark.parametrize('name', CHANGES)
def test_changes_are_named_with_both_values(tmp_path: Path, name: str) -> None:
    change, words = CHANGES[name]
    log = resumed_log(tmp_path, change)
    assert 'The config is not that of the resumed checkpoint' in log
    assert words in log


def test_more_steps_keep_the_end_of_the_schedule(tmp_path: Path) -> None:
    """MMEngine ends a schedule where the training of the checkpoint ended."""
    log = resumed_log(tmp_path, set_loop(max_iters=14))
    text = 'param_scheduler[1] (MultiStepLR) end: 12 in the checkpoint, 14 in the config'
    assert text + NO_EFFECT in log


def test_what_counts_is_not_among_what_stays(tmp_path: Path) -> None:
    log = resumed_log(tmp_path, set_loop(max_iters=14))
    changed, kept = log.split("What stays as in the checkpoint's schedule and optimizer:")
    assert 'What the config changes:\n  train_cfg.max_iters: 12 in' in changed
    assert NO_EFFECT not in changed
    assert 'which counts' not in kept and NO_EFFECT in kept


def test_length_alone_says_nothing_of_the_schedule(tmp_path: Path) -> None:
    """Nor is there a reason to start anew."""

    def lengthen(runner: Any) -> None:
        runner.param_schedulers[1].update(end=12)
        set_loop(max_iters=14)(runner)

    log = resumed_log(tmp_path, lengthen)
    assert 'train_cfg.max_iters: 12 in the checkpoint, 14 in the config, which counts' in log
    assert 'What stays' not in log and 'start a new training' not in log


def test_a_failed_comparison_stops_nothing(tmp_path: Path) -> None:
    with mock.patch.object(resumed_schedule, 'compare_end', side_effect=KeyError('max_iters')):
        log = resumed_log(tmp_path, lambda runner: None)
    assert "could not be compared (KeyError: 'max_iters')" in log
    assert (tmp_path / 'iter_12.pth').is_file()


def test_more_epochs(tmp_path: Path) -> None:
    log = resumed_log(tmp_path, set_loop(max_epochs=4), by_epoch=True)
    assert 'train_cfg.max_epochs: 3 in the checkpoint, 4 in the config, which counts' in log
    assert 'max_iters' not in log
