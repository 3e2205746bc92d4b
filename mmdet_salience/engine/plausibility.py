"""Whether what a checkpoint says about its training can be true."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.safe_load import CheckpointFileError

MAX_SEED = 2**32  # of NumPy

# In the message hub: whether the training counts epochs, so that its steps depend on the data.
BY_EPOCH_KEY = 'by_epoch'


def is_count(value: Any) -> bool:
    """Whether something is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_finite(value: Any) -> bool:
    """Whether something is a finite number, also one of NumPy or PyTorch."""
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def holds_nan(value: Any) -> bool:
    """Whether a number is NaN in nested mappings and lists; tensors are not looked at."""
    if isinstance(value, Mapping):
        return any(map(holds_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_nan, value))
    return isinstance(value, float) and math.isnan(value)


def wrong_info(info: Mapping[str, Any]) -> str | None:
    """Find a wrong entry of ``message_hub.runtime_info`` that a resumed run builds on.

    Args:
        info: The entries.

    Returns:
        Its key with its value, None if there is none.
    """
    kept, retired = info.get('keep_ckpt_ids', []), info.get('retired_checkpoints', [])
    right = {
        'keep_ckpt_ids': isinstance(kept, list | tuple) and all(map(is_count, kept)),
        'retired_checkpoints': isinstance(retired, list | tuple)
        and all(isinstance(name, str) for name in retired),
        'validated_at': is_count(info.get('validated_at', 0)),
        'data_stream': isinstance(info.get('data_stream', {}), Mapping),
    }
    for key, value in info.items():
        if str(key).startswith('best_score'):
            right[key] = is_finite(value)
        elif str(key).startswith('best_ckpt'):
            right[key] = isinstance(value, str | None)
    wrong = [key for key, is_right in right.items() if not is_right]
    return f'{wrong[0]} {info[wrong[0]]!r}' if wrong else None


def wrong_progress(meta: Mapping[str, Any], info: Mapping[str, Any]) -> str | None:
    """Find wrong numbers about how far a training is.

    Args:
        meta: ``meta`` of the checkpoint, with epoch and iteration.
        info: ``message_hub.runtime_info``.

    Returns:
        What is wrong, None if nothing is.
    """
    epoch, iteration, seed = meta['epoch'], meta['iter'], meta.get('seed')
    for name, value in (('iteration', iteration), ('epoch', epoch)):
        if not is_count(value):
            return f'{name} {value!r}'
    if epoch > iteration:
        return f'epoch {epoch} after {iteration} iterations'
    ends = dict(max_epochs=epoch)
    if not info.get(BY_EPOCH_KEY, info.get('max_epochs') != 1):  # all iterations are one epoch
        ends['max_iters'] = iteration
    for name, value in ends.items():
        end = info.get(name)
        if is_count(end) and value > end:
            return f'{value} of {name}={end}'
    if seed is not None and not (is_count(seed) and seed < MAX_SEED):
        return f'seed {seed!r}'
    return None


def find_nonsense(content: Mapping[str, Any]) -> str | None:
    """Find what cannot be true in a training checkpoint.

    Args:
        content: The checkpoint, with ``meta``, ``message_hub`` and ``optimizer``.

    Returns:
        What is wrong, None if nothing is.
    """
    hub = content['message_hub']
    for key in ('runtime_info', 'log_scalars', 'resumed_keys'):
        if not isinstance(hub.get(key), Mapping):
            return f'{key} {hub.get(key)!r}'
    info = hub['runtime_info']
    wrong = wrong_progress(content['meta'], info) or wrong_info(info)
    if wrong is not None:
        return wrong
    for key in ('optimizer', 'param_schedulers'):
        if holds_nan(content.get(key)):
            return f'NaN among the numbers of {key}'
    return None


def require_keys(path: str | Path, content: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse what is no checkpoint of a training.

    Args:
        path: The file, for the message.
        content: What it holds.
        keys: Keys that it needs; ``meta`` has to have epoch and iteration.

    Raises:
        CheckpointFileError: A key is missing.
    """
    missing = [key for key in keys if not isinstance(content.get(key), Mapping)]
    if missing or not {'epoch', 'iter'} <= content['meta'].keys():
        raise CheckpointFileError(
            f'{path} is no checkpoint of a training: it has no '
            f'{", ".join(missing) or "epoch and iteration"}. Weights alone are a start for a new '
            'training, by load_from'
        )


def require_sense(path: str | Path, content: Mapping[str, Any]) -> None:
    """Refuse a training checkpoint that says what cannot be true.

    Args:
        path: The file, for the message.
        content: The checkpoint, with ``meta``, ``message_hub`` and ``optimizer``.

    Raises:
        CheckpointFileError: It does.
    """
    wrong = find_nonsense(content)
    if wrong is not None:
        raise CheckpointFileError(
            f'{path} cannot be resumed: it says {wrong}, which cannot be. It is damaged or was '
            'changed; take an earlier checkpoint'
        )
