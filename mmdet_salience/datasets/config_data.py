"""Where a config's data lies: data sets inside wrappers, their files, another data root."""

import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.utils import is_abs

SPLITS = ('train', 'val', 'test')


class DataFiles(NamedTuple):
    """Files of a data set as mmengine's ``BaseDataset`` will look for them."""

    ann_file: str
    """The annotation file."""
    image_root: str
    """Folder that the file names of the images refer to."""


def leaf_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Walk through dataset wrappers.

    Args:
        dataset: Config of a dataset or of a wrapper of one or several.

    Yields:
        The config of each dataset that is no wrapper.
    """
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for child in inner:
        yield from leaf_datasets(child)


def split_datasets(cfg: Config, split: str) -> list[ConfigDict]:
    """Datasets of a split, without wrappers.

    Args:
        cfg: The config.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        The configs, none if the config has no such split.
    """
    loader = cfg.get(f'{split}_dataloader')
    return list(leaf_datasets(loader.dataset)) if loader else []


def data_files(dataset: ConfigDict) -> DataFiles:
    """Find the files of a dataset.

    Args:
        dataset: Config of a dataset, no wrapper.

    Returns:
        Its files; they need not exist.
    """
    root = dataset.get('data_root') or ''
    paths = (dataset.get('ann_file') or '', (dataset.get('data_prefix') or {}).get('img', ''))
    return DataFiles(*(path if is_abs(path) else osp.join(root, path) for path in paths))


def move_data_root(cfg: Config, old_root: str | None) -> None:
    """Carry a changed ``cfg.data_root`` into datasets and evaluators, in place.

    A config copies ``data_root`` into its datasets and evaluators while it is read, so overriding
    the variable alone, as ``--cfg-options data_root=...`` or a child config does, would have no
    effect. Afterwards the datasets are written for the new root, and ``default_data_root`` says so:
    whoever moves again, or reads a dump of the config, finds nothing left to move.

    Args:
        cfg: Config whose ``data_root`` may have been overridden.
        old_root: ``data_root`` that its datasets were written with; ``default_data_root`` of the
            config is another such root.

    Raises:
        ValueError: If ``data_root`` is no text.
    """
    new_root = cfg.get('data_root')
    if new_root is not None and not isinstance(new_root, str):
        raise ValueError(
            f"data_root={new_root!r} is no path. MMEngine's parser of --cfg-options drops spaces, "
            'splits at commas and reads numbers; give the path by --data-root, or in a config'
        )
    if not new_root:
        return
    new_root = _as_folder(new_root)
    known = [root for root in (old_root, cfg.get('default_data_root')) if root]
    old_roots = sorted(set(map(_as_folder, known)) - {new_root}, key=len, reverse=True)
    for split in SPLITS:
        for section in ('dataloader', 'evaluator'):
            if cfg.get(f'{split}_{section}'):
                _move_paths(cfg[f'{split}_{section}'], old_roots, new_root)
    if cfg.get('default_data_root'):
        cfg.default_data_root = new_root


def _as_folder(path: str) -> str:
    """A path with a slash at its end."""
    return path if path.endswith('/') else f'{path}/'


def _move_paths(node: Any, old_roots: Sequence[str], new_root: str) -> None:
    """Move the paths under the keys ``data_root`` and ``ann_file``, recursively."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, (dict, list)):
            _move_paths(value, old_roots, new_root)
        elif key in ('data_root', 'ann_file') and isinstance(value, str):
            node[key] = _move_path(value, old_roots, new_root)


def _move_path(path: str, old_roots: Sequence[str], new_root: str) -> str:
    """Move a path from the first of the old roots that it lies in; others stay as they are."""
    folder = _as_folder(path)
    for old_root in old_roots:
        is_moved = new_root.startswith(old_root) and folder.startswith(new_root)
        if folder.startswith(old_root) and not is_moved:
            return new_root + path[len(old_root) :]
    return path
