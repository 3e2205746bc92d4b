"""Which checkpoint of a command line belongs to which config."""

from collections.abc import Sequence
from pathlib import Path

from ..utils.file_names import distinct_names

NO_CHECKPOINT = '-'


def name_configs(paths: Sequence[str]) -> list[str]:
    """Name configs after their files; later ones of the same name get a number.

    Args:
        paths: The configs.

    Returns:
        Names that differ.
    """
    return distinct_names([Path(path).stem for path in paths], mark='-')


def assign_checkpoints(items: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Give each config its checkpoint.

    Args:
        items: ``NAME=PATH``, or one path for each config.
        names: Names of the configs.

    Returns:
        A checkpoint for each config, None for none.

    Raises:
        FileNotFoundError: If a checkpoint is missing.
        ValueError: If it is not clear which config a checkpoint belongs to.
    """
    if items and all(item.partition('=')[0] in names for item in items):
        given = dict(item.split('=', 1) for item in items if '=' in item)
        found = [given.get(name, NO_CHECKPOINT) for name in names]
        if len(given) != len(items):
            raise ValueError('--checkpoint names a config twice, or without =PATH; give NAME=PATH')
    elif items and len(items) != len(names):
        raise ValueError(
            f'--checkpoint has {len(items)} entries for {len(names)} configs; give one for each, '
            f'"{NO_CHECKPOINT}" for none, or NAME=PATH with a name of {", ".join(names)}'
        )
    else:
        found = list(items) or [NO_CHECKPOINT] * len(names)
    for path in found:
        if path != NO_CHECKPOINT and '://' not in path and not Path(path).is_file():
            raise FileNotFoundError(f'there is no checkpoint {path}; check the path')
    return [None if path == NO_CHECKPOINT else path for path in found]
