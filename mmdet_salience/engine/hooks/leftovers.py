"""Checkpoints that were replaced, and not removed because their run was killed in between."""

import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import MessageHub

from ...utils.safe_load import CheckpointFileError, load_safely
from ..resume import INTERRUPTED_PREFIX, SUFFIX

# In the message hub, which is saved and restored with every checkpoint.
TRAINING_KEY = 'training_id'
RETIRED_KEY = 'retired_checkpoints'  # names of those that go when this one is complete


class Kept(NamedTuple):
    """What a resumed training says about checkpoints.

    Attributes:
        template: Template of the names of regular checkpoints, ``'iter_{}.pth'``.
        retired: Names of the regular ones that ``max_keep_ckpts`` has no room for.
        best: Names of the best ones.
        resumed: Name of the one that was resumed.
        iteration: Its iteration.
    """

    template: str
    retired: tuple[str, ...]
    best: tuple[str, ...]
    resumed: str
    iteration: int


def name_training(hub: MessageHub) -> str:
    """Give a training a name that its checkpoints have, also those of resumed runs.

    Args:
        hub: The message hub, changed in place.

    Returns:
        The name.
    """
    name = hub.runtime_info.get(TRAINING_KEY)
    if not isinstance(name, str):
        name = uuid.uuid4().hex
        hub.update_info(TRAINING_KEY, name)
    return name


def belongs_to(path: Path, training: str) -> bool:
    """Whether a checkpoint was written by a training.

    Args:
        path: The checkpoint.
        training: Name of the training.

    Returns:
        False also for what cannot be read.
    """
    try:
        content: Any = load_safely(path, mmap=True)
        return bool(content['message_hub']['runtime_info'][TRAINING_KEY] == training)
    except (OSError, CheckpointFileError, LookupError, TypeError):
        return False


def step_in(name: str, template: str) -> int | None:
    """Read the number in a name of a checkpoint.

    Args:
        name: The name.
        template: Its template.

    Returns:
        The number, None if the name is not of this template.
    """
    steps = map(int, re.findall(r'\d+', name))
    return next((step for step in steps if template.format(step) == name), None)


def best_prefixes(kept: Kept) -> Iterator[tuple[str, int]]:
    """Take the names of the best checkpoints apart.

    Args:
        kept: What is kept.

    Yields:
        What stands before the regular name, and the number in that.
    """
    for name in kept.best:
        numbers = {int(digits) for digits in re.findall(r'\d+', name)}
        for step in numbers:
            if name.endswith(kept.template.format(step)):
                yield name.removesuffix(kept.template.format(step)), step


def is_replaced(name: str, kept: Kept) -> bool:
    """Whether a name is that of a checkpoint for which a later one has come.

    Args:
        name: The name.
        kept: What is kept.

    Returns:
        False for all names that a training does not give.
    """
    if name == kept.resumed or name in kept.best:
        return False
    if name in kept.retired:
        return True
    step = step_in(name, f'{INTERRUPTED_PREFIX}{{}}{SUFFIX}')
    if step is not None:
        return step <= kept.iteration
    for prefix, best_step in best_prefixes(kept):
        step = step_in(name.removeprefix(prefix), kept.template)
        if name.startswith(prefix) and step is not None:
            return step < best_step
    return False


def remove_replaced(folders: Iterable[Path], training: str, kept: Kept) -> Iterator[Path]:
    """Remove checkpoints of a training that a killed run had replaced.

    Args:
        folders: Folders of its checkpoints.
        training: Its name; checkpoints of others stay.
        kept: What it keeps.

    Yields:
        The removed files.
    """
    for path in (path for folder in folders for path in sorted(folder.glob(f'*{SUFFIX}'))):
        if is_replaced(path.name, kept) and not path.is_symlink() and belongs_to(path, training):
            with suppress(OSError):
                path.unlink()
                yield path
