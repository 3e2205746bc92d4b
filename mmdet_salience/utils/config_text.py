"""Configs that come inside a checkpoint: text that MMEngine would run as Python.

The config of a run is written as plain values and ``dict(...)``. Anything else in it, imports of
other packages and types that are named by their module, could run whatever its author likes.
"""

import ast
from collections.abc import Iterator

from mmengine.runner.checkpoint import CheckpointLoader

from .safe_load import TRUST_VARIABLE, CheckpointFileError, trusted

# Packages whose modules a config in a checkpoint may import or name.
KNOWN_PACKAGES = ('mmdet_salience', 'mmdet', 'mmengine', 'mmcv')

PLAIN_NODES = (
    ast.Module, ast.Assign, ast.Name, ast.Store, ast.Load, ast.Constant, ast.List, ast.Tuple,
    ast.Set, ast.UnaryOp, ast.USub, ast.UAdd, ast.keyword,
)  # fmt: skip
MAX_SHOWN = 60


def find_code(text: str) -> Iterator[str]:
    """Look for what is no plain value in the text of a config.

    Args:
        text: The text.

    Yields:
        What was found.
    """
    if '{{' in text:
        yield 'a template, which MMEngine fills in'
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield from check_call(node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                yield from check_entry(getattr(key, 'value', None), value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from check_entry(getattr(target, 'id', None), node.value)
        elif not isinstance(node, PLAIN_NODES):
            yield type(node).__name__
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id != 'dict':
            yield f'the name {node.id}'


def check_call(node: ast.Call) -> Iterator[str]:
    """Look at a call, which may only be ``dict`` of entries.

    Args:
        node: The call.

    Yields:
        What is not allowed.
    """
    is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict'
    if not is_dict or not all(isinstance(argument, ast.Dict) for argument in node.args):
        yield f'the call {ast.unparse(node)[:MAX_SHOWN]}'
    for keyword in node.keywords:
        yield from check_entry(keyword.arg, keyword.value)


def check_entry(name: object, value: ast.expr) -> Iterator[str]:
    """Look at an entry that decides what is imported.

    Args:
        name: Its name.
        value: Its value.

    Yields:
        What is not allowed.
    """
    strings = [
        node.value
        for node in ast.walk(value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    if name == 'imports':
        yield from (
            f'the import of {text}' for text in strings if text.split('.')[0] not in KNOWN_PACKAGES
        )
    if name in ('_scope_', 'default_scope'):
        yield from (f'the scope {text}' for text in strings if text not in KNOWN_PACKAGES)
    if name == '_base_':
        yield 'a base config'
    if name == 'type':
        yield from (f'the type {text}' for text in strings if not is_registered_name(text))


def is_registered_name(name: str) -> bool:
    """Whether a type is named as registries do it, perhaps with their scope.

    MMEngine imports what has a dot and is in no registry, ``os.system`` for example.
    """
    *scope, _ = name.split('.')
    return not scope or (len(scope) == 1 and scope[0] in KNOWN_PACKAGES)


def read_config(weights: str) -> str:
    """Read the config in a checkpoint, where MMEngine's inferencers look for it.

    Args:
        weights: Path or address of the checkpoint.

    Returns:
        The text; empty if there is none.

    Raises:
        CheckpointFileError: The checkpoint is damaged, or holds what could run code.
    """
    checkpoint = CheckpointLoader.load_checkpoint(weights, map_location='cpu', logger='silent')
    if not isinstance(checkpoint, dict):
        return ''
    runtime = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    return str(runtime.get('cfg') or (checkpoint.get('meta') or {}).get('cfg') or '')


def require_plain_config(text: str, source: str) -> None:
    """Make sure that the text of a config can be run.

    Args:
        text: The text.
        source: The checkpoint it comes from.

    Raises:
        CheckpointFileError: It holds more than plain values, and the user does not trust it.
    """
    if trusted():
        return
    try:
        found = next(find_code(text), None)
    except SyntaxError as error:
        found = f'a syntax error: {error}'
    if found is not None:
        raise CheckpointFileError(
            f'the config in {source} holds more than plain values ({found}), and to use it could '
            f'run code. Give the config by model=..., or, if you trust the file, say so: '
            f'trust_checkpoints=True, or {TRUST_VARIABLE}=1 in the environment'
        )
