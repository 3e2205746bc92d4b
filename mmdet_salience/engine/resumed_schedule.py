"""Where a resumed training keeps a schedule that its config does not state any more.

MMEngine restores schedules and optimizers with all their settings, and so a change of the config
has no effect on them.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.utils import is_seq_of

from .gradient_steps import optim_wrappers

# What changes during a training; base_values are the optimizer's rates.
PROGRESS = ('last_step', '_last_value', '_global_step', 'base_values', 'verbose')
NOTHING = 'nothing'
NO_EFFECT = 'has no effect'
MAX_VALUE = 60


class Difference(NamedTuple):
    """A setting that a checkpoint has otherwise than the config.

    Attributes:
        key: Where the config states it.
        checkpoint: The checkpoint's value.
        config: The config's value.
        effect: What the config's value does.
    """

    key: str
    checkpoint: Any
    config: Any
    effect: str = NO_EFFECT


def show(value: Any) -> str:
    """Write a value for a message."""
    if isinstance(value, Counter):
        value = sorted(value.elements())
    text = str(value)
    return text if len(text) <= MAX_VALUE else f'{text[:MAX_VALUE]}...'


def flat_schedules(schedules: Any) -> list[Any]:
    """Schedules in a row, also those of several optimizers."""
    if isinstance(schedules, Mapping):
        return [schedule for name in sorted(schedules) for schedule in schedules[name]]
    return list(schedules or [])


def schedule_states(runner: Runner) -> list[dict[str, Any]]:
    """What a runner's schedules say, each with its class."""
    return [
        dict(schedule.state_dict(), type=type(schedule).__name__)
        for schedule in flat_schedules(runner.param_schedulers)
    ]


def group_settings(runner: Runner) -> dict[str, list[Any]]:
    """Settings of the optimizers by name, each with its values of all groups of weights."""
    groups = [group for wrapper in optim_wrappers(runner) for group in wrapper.param_groups]
    settings: dict[str, list[Any]] = {}
    for group in groups:
        scheduled = 'initial_lr' in group
        for key, value in group.items():
            if key not in ('params', 'lr') or (key == 'lr' and not scheduled):
                settings.setdefault('lr' if key == 'initial_lr' else key, []).append(value)
    return settings


def compare_schedules(
    saved: Sequence[Mapping[str, Any]], stated: Sequence[Mapping[str, Any]]
) -> Iterator[Difference]:
    """Compare schedules, one by one.

    Args:
        saved: What the checkpoint says of each.
        stated: What the config says of each, with its class as ``type``.

    Yields:
        The differences.
    """
    if len(saved) != len(stated):
        effect = 'ends the others' if len(saved) > len(stated) else 'starts the others now'
        yield Difference('the number of param_scheduler', len(saved), len(stated), effect)
    for place, (old, new) in enumerate(zip(saved, stated, strict=False)):
        yield from compare_schedule(f'param_scheduler[{place}]', old, new)


def compare_schedule(
    key: str, saved: Mapping[str, Any], stated: Mapping[str, Any]
) -> Iterator[Difference]:
    """Compare two schedules.

    Args:
        key: Where the config states it.
        saved: What the checkpoint says.
        stated: What the config says, with its class as ``type``.

    Yields:
        The differences.
    """
    names = (saved.keys() - PROGRESS, stated.keys() - {*PROGRESS, 'type'})
    only_saved, only_stated = names[0] - names[1], names[1] - names[0]
    if only_saved and only_stated:
        kind = f'one with {", ".join(sorted(only_saved))}'
        yield Difference(key, kind, stated['type'], 'counts from here on')
    for name in sorted(names[0] & names[1]):
        if saved[name] != stated[name]:
            yield Difference(f'{key} ({stated["type"]}) {name}', saved[name], stated[name])


def compare_groups(
    saved: Mapping[str, list[Any]], stated: Mapping[str, list[Any]]
) -> Iterator[Difference]:
    """Compare the settings of optimizers; what only one of two versions of PyTorch has is passed.

    Args:
        saved: Settings of the checkpoint.
        stated: Settings of the config.

    Yields:
        The first difference of each setting.
    """
    for key in sorted(saved.keys() & stated.keys()):
        for old, new in zip_longest(saved[key], stated[key], fillvalue=NOTHING):
            if old != new:
                yield Difference(f'optim_wrapper.optimizer.{key}', old, new)
                break


def compare_end(runner: Runner) -> Iterator[Difference]:
    """Compare the length of a resumed training with that of the config."""
    key = 'max_epochs' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'max_iters'
    old, new = runner.message_hub.get_info(key), getattr(runner.train_loop, key)
    if old not in (None, new):
        yield Difference(f'train_cfg.{key}', old, new, 'counts')


def is_built(runner: Runner) -> bool:
    """Whether a runner has its optimizers and schedules, and not only their configs."""
    schedules = runner.param_schedulers
    rows = schedules.values() if isinstance(schedules, Mapping) else [schedules or []]
    return isinstance(runner.optim_wrapper, OptimWrapper) and all(
        is_seq_of(row, _ParamScheduler) for row in rows
    )


class StatedSchedule:
    """What the config says of the schedule, to be taken before a checkpoint is resumed.

    Args:
        runner: The runner, with its schedules and optimizers built.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.schedules = schedule_states(runner)
        self.groups = group_settings(runner)

    def warn(self, saved: Any) -> None:
        """Warn where a resumed training differs from its config.

        Args:
            saved: ``param_schedulers`` of the checkpoint.
        """
        try:
            differences = [
                *compare_end(self.runner),
                *compare_schedules(flat_schedules(saved), self.schedules),
                *compare_groups(group_settings(self.runner), self.groups),
            ]
        except Exception as error:  # a mere warning stops no training
            text = f'could not be compared ({type(error).__name__}: {error}).'
            print_log(f'Config and resumed checkpoint {text}', 'current', logging.WARNING)
            return
        if differences:
            print_log(describe_all(differences), 'current', logging.WARNING)


def describe_all(differences: Sequence[Difference]) -> str:
    """Write what the config changes, and what it does not."""
    parts = ['The config is not that of the resumed checkpoint.']
    counting = [describe(one) for one in differences if one.effect != NO_EFFECT]
    if counting:
        parts.append('\n  '.join(['What the config changes:', *counting]))
    kept = [describe(one) for one in differences if one.effect == NO_EFFECT]
    if kept:
        parts.append(
            '\n  '.join(["What stays as in the checkpoint's schedule and optimizer:", *kept])
        )
        parts.append(
            'For the schedule of the config, start a new training with the weights: '
            'load_from=CHECKPOINT, without --resume.'
        )
    return '\n'.join(parts)


def describe(difference: Difference) -> str:
    """Write a difference with both values."""
    old, new = show(difference.checkpoint), show(difference.config)
    text = f'{difference.key}: {old} in the checkpoint, {new} in the config'
    return f'{text}, which {difference.effect}'
