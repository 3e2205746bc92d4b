"""Which checkpoint a run goes on from: the last one that is complete and belongs to the model."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log

from ..utils.safe_load import CheckpointFileError, load_safely
from .plausibility import require_keys, require_sense

AUTO = 'auto'
LAST_CHECKPOINT = 'last_checkpoint'
SUFFIX = '.pth'

# Checkpoints of the best metric hold weights alone.
BEST_PREFIX = 'best_'
INTERRUPTED_PREFIX = 'interrupted_iter_'
TRAINING_KEYS = ('meta', 'state_dict', 'message_hub', 'optimizer')
NUM_EXAMPLES = 3
UNREADABLE = -1

Shapes = Mapping[str, Sequence[int]]


class TrainingCheckpoint(NamedTuple):
    """A checkpoint that a training can go on from.

    Attributes:
        path: The file.
        iteration: Steps that are done.
        seed: Seed of its run, None if it is not known.
    """

    path: Path
    iteration: int
    seed: int | None


def read_training_checkpoint(path: Path, shapes: Shapes) -> TrainingCheckpoint:
    """Check that a training can go on from a file.

    Args:
        path: The file; its tensors are not read where its format allows.
        shapes: Shapes of the model's weights by their names.

    Returns:
        What it is.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointFileError: It is damaged, or no training checkpoint, or of another model, or its
            numbers cannot be.
    """
    content = load_safely(path, mmap=True)
    if not isinstance(content, dict):
        raise CheckpointFileError(f'{path} holds a {type(content).__name__}, and no checkpoint')
    require_keys(path, content, TRAINING_KEYS)
    progress = content['meta']
    require_sense(path, content)
    check_model(path, content['state_dict'], shapes)
    return TrainingCheckpoint(path, progress['iter'], progress.get('seed'))


def check_model(path: Path, weights: Mapping[str, Any], shapes: Shapes) -> None:
    """Compare a checkpoint's weights with the model.

    Args:
        path: The file.
        weights: Its weights.
        shapes: Shapes of the model's weights by their names.

    Raises:
        CheckpointFileError: They differ in names or shapes.
    """
    found = {name: tuple(getattr(value, 'shape', ())) for name, value in weights.items()}
    expected = {name: tuple(shape) for name, shape in shapes.items()}
    others = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    if others:
        examples = '; '.join(
            f'{name}: {describe(found.get(name))} in the file, {describe(expected.get(name))} in '
            'the model'
            for name in others[:NUM_EXAMPLES]
        )
        raise CheckpointFileError(
            f'{path} is of another model, in {len(others)} weights ({examples}). Give the config '
            'that it was trained with'
        )


def describe(shape: tuple[int, ...] | None) -> str:
    """Write a shape for a message."""
    return 'nothing' if shape is None else '×'.join(map(str, shape)) or 'a number'


def read_note(folder: Path) -> str:
    """Read MMEngine's ``last_checkpoint``; empty if there is none.

    Args:
        folder: Work folder.

    Returns:
        Path or address of a checkpoint.
    """
    with suppress(OSError):
        return (folder / LAST_CHECKPOINT).read_text(errors='replace').strip()
    return ''


def read_hint(folder: Path) -> Path | None:
    """Read which file ``last_checkpoint`` names.

    Args:
        folder: Work folder.

    Returns:
        The file, None if there is no such note, an empty one, or one that names no file in a folder
        that is there.
    """
    note = read_note(folder)
    if note and '://' not in note:
        with suppress(OSError):  # a name that is too long
            return Path(note) if Path(note).parent.is_dir() else None
    return None


def remote_hint(folder: Path) -> str | None:
    """Address in ``last_checkpoint`` if checkpoints go to an object store, else None."""
    note = read_note(folder)
    return note if '://' in note else None


def list_candidates(folder: Path) -> list[Path]:
    """List what may be the last checkpoint of a run, the newest first.

    Args:
        folder: Work folder.

    Returns:
        Files in it, and in that of the checkpoint that ``last_checkpoint`` names; at the end those
        that the system cannot read.
    """
    hint = read_hint(folder)
    folders = {folder, hint.parent} if hint is not None else {folder}
    files = {
        file
        for place in folders
        for file in place.glob(f'*{SUFFIX}')
        if not file.name.startswith(BEST_PREFIX)
    }
    return sorted(files, key=lambda file: (time_of(file), file.name), reverse=True)


def time_of(file: Path) -> int:
    """Time of a file in nanoseconds; -1 for a link that leads nowhere, or in a circle."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return UNREADABLE


def has_candidates(folder: Path) -> bool:
    """Whether there is anything to go on from."""
    return (
        any(time_of(file) != UNREADABLE for file in list_candidates(folder))
        or remote_hint(folder) is not None
    )


def complete(files: Sequence[Path], shapes: Shapes) -> Iterator[TrainingCheckpoint]:
    """Go through the files that a training can go on from, and name the others in warnings.

    Args:
        files: Files.
        shapes: Shapes of the model's weights by their names.

    Yields:
        Checkpoints, in the order of the files.
    """
    for file in files:
        try:
            yield read_training_checkpoint(file, shapes)
        except (OSError, CheckpointFileError) as error:
            print_log(f'Not resumed: {error}', logger='current', level=logging.WARNING)


def find_last_complete(folder: Path, shapes: Shapes) -> TrainingCheckpoint | None:
    """Find the checkpoint that a run goes on from.

    It is the newest file that is complete and of this model. ``last_checkpoint`` only matters where
    the times of the files say nothing any more, as after copying: what it names is preferred if it
    is further on.

    Args:
        folder: Work folder.
        shapes: Shapes of the model's weights by their names.

    Returns:
        The checkpoint, None if there are no files at all; a link that leads nowhere is none.

    Raises:
        CheckpointFileError: There are files, but none that will do.
    """
    files = list_candidates(folder)
    newest = next(complete(files, shapes), None)
    files = [file for file in files if time_of(file) != UNREADABLE]
    if not files:
        return None
    if newest is None:
        raise CheckpointFileError(
            f'none of the {len(files)} checkpoints of {folder} can be resumed (see the warnings '
            'above). Leave out --resume to start anew, which overwrites them, or give another '
            '--work-dir'
        )
    hint = read_hint(folder)
    named = [hint] if hint in files and hint != newest.path else []
    return max([newest, *complete(named, shapes)], key=lambda found: found.iteration)


def is_elsewhere(resume: bool | str, load_from: str | None) -> bool:
    """Whether a run goes on from a checkpoint that is not in this file system."""
    return resume != AUTO and '://' in str(load_from)


def find(
    resume: bool | str, load_from: str | None, folder: Path, shapes: Shapes
) -> TrainingCheckpoint | None:
    """Find the checkpoint that a config's ``resume`` and ``load_from`` mean.

    Args:
        resume: ``'auto'``, or that something is resumed.
        load_from: The checkpoint; without it, or with ``'auto'``, the last one is meant.
        folder: Work folder.
        shapes: Shapes of the model's weights by their names.

    Returns:
        The checkpoint; None if there is none, or it is not in this file system.

    Raises:
        FileNotFoundError: The named checkpoint is not there.
        CheckpointFileError: The named one, or none of those that are there, will do.
    """
    if is_elsewhere(resume, load_from):
        return None
    if resume != AUTO and load_from is not None:
        return read_training_checkpoint(Path(load_from), shapes)
    found = find_last_complete(folder, shapes)
    text = f'There is no checkpoint in {folder} to resume from: the training starts.'
    if found is not None:
        text = f'Resuming from {found.path}, iteration {found.iteration}.'
    print_log(text, logger='current')
    return found
