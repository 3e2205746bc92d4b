"""Move a config to another data folder."""

from typing import Any

from mmengine.config import Config


def move_data_root(cfg: Config, old_root: str | None) -> None:
    """Carry a changed ``cfg.data_root`` into datasets and evaluators, in place.

    A config copies ``data_root`` into its datasets and evaluators while it is read, so overriding
    the variable alone, as ``--cfg-options data_root=...`` does, would have no effect.

    Args:
        cfg: Config whose ``data_root`` may have been overridden.
        old_root: ``data_root`` as it was when the config was read.
    """
    new_root = cfg.get('data_root')
    if not old_root or not new_root or new_root == old_root:
        return
    new_root = new_root if new_root.endswith('/') else f'{new_root}/'
    for split in ('train', 'val', 'test'):
        for section in ('dataloader', 'evaluator'):
            if cfg.get(f'{split}_{section}'):
                _replace_prefix(cfg[f'{split}_{section}'], old_root, new_root)


def _replace_prefix(node: Any, old: str, new: str) -> None:
    """Replace a prefix of the paths under the keys ``data_root`` and ``ann_file``, recursively."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, (dict, list)):
            _replace_prefix(value, old, new)
        elif key in ('data_root', 'ann_file') and isinstance(value, str) and value.startswith(old):
            node[key] = new + value[len(old) :]
