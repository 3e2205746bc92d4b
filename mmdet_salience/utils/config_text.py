"""Configs that come inside a checkpoint: text that MMEngine would run as Python.

The config of a run is written as plain values and ``dict(...)``. Anything else in it, imports of
other packages and types that are named by their module, could run whatever its author likes. What
is left is read as values, see :func:`load_checkpoint_config`, and not run.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from .foreign_config import all_registries, copy_for_inference, find_registered, known_scopes
from .safe_load import MAX_REASON, TRUST_VARIABLE, CheckpointFileError, trusted

# Packages whose modules a config in a checkpoint may import or name.
KNOWN_PACKAGES = ('mmdet_salience', 'mmdet', 'mmengine', 'mmcv')

PLAIN_NODES = (
    ast.Module, ast.Assign, ast.Name, ast.Store, ast.Load, ast.Constant, ast.List, ast.Tuple,
    ast.Set, ast.UnaryOp, ast.USub, ast.UAdd, ast.keyword,
)  # fmt: skip
TYPE_KEYS = ('type', 'runner_type')
MAX_SHOWN = 60

# Where MMEngine puts the text of the config into a checkpoint.
PLACES = (('message_hub', 'runtime_info'), ('meta',))

# Longer ones could be too much for Python's parser.
MAX_LENGTH = 2_000_000

REMEDY = (
    'Give the config by model=..., or, if you trust the file, say so: trust_checkpoints=True, or '
    f'{TRUST_VARIABLE}=1 in the environment'
)


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
        elif isinstance(node, ast.Dict) and None not in node.keys:
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
    is_dict = is_dict and all(keyword.arg is not None for keyword in node.keywords)
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
        scopes = {*KNOWN_PACKAGES, *known_scopes()}
        yield from (f'the scope {text}' for text in strings if text not in scopes)
    if name == '_base_':
        yield 'a base config'
    if name in TYPE_KEYS:
        yield from (f'the type {text}' for text in strings if not is_registered_name(text))


def is_registered_name(name: str) -> bool:
    """Whether a type is named as registries do it; with a scope it has to be there.

    MMEngine imports what is in no registry, ``os.system`` for example. Names without scope are
    looked up when something is built of them, see ``foreign_config.py``.
    """
    return '.' not in name or find_registered(name, all_registries()) is not None


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
    texts = (entry_of(entry_of(checkpoint, *path), 'cfg') for path in PLACES)
    return str(next(filter(None, texts), ''))


def entry_of(value: Any, *names: str) -> Any:
    """Take an entry of an entry of ... out of dictionaries; None where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


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
        if len(text) > MAX_LENGTH:
            raise ValueError(f'{len(text)} characters')
        found = next(find_code(text), None)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        found = f'a syntax error: {error}'
    if found is not None:
        found = ''.join(filter(str.isprintable, found))[:MAX_REASON]
        raise CheckpointFileError(
            f'the config in {source} holds more than plain values ({found}), and to use it could '
            f'run code. {REMEDY}'
        )


def read_values(text: str) -> dict[str, Any]:
    """Read the text of a config without running it.

    Args:
        text: Text that :func:`require_plain_config` accepts.

    Returns:
        Its values by their names.
    """
    values: dict[str, Any] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign):
            names = (target.id for target in statement.targets if isinstance(target, ast.Name))
            values.update(dict.fromkeys(names, read_value(statement.value)))
    return values


def read_value(node: Any) -> Any:
    """Read a value of a config, whose calls are all of ``dict``."""
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = dict(List=list, Tuple=tuple, Set=set)[type(node).__name__]
        return kind(map(read_value, node.elts))
    if isinstance(node, ast.Dict):
        return {read_value(k): read_value(v) for k, v in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Call):
        found = dict(*map(read_value, node.args))
        return {**found, **{entry.arg: read_value(entry.value) for entry in node.keywords}}
    return ast.literal_eval(node)


def load_checkpoint_config(weights: str) -> Config:
    """Load the config in a checkpoint, for inference with the checkpoint's weights.

    What it holds is not run: only the model, the test pipeline and the classes are taken, if their
    types are registered and nothing in them reads other files. A trusted checkpoint's config is
    taken as it is.

    Args:
        weights: Path or address of the checkpoint.

    Returns:
        The config, for ``init_detector`` or ``DetInferencer``.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointFileError: The checkpoint is damaged, or its config missing or harmful.
    """
    text = read_config(weights)
    if not text:
        raise CheckpointFileError(f'{weights} holds no config. Give it by model=...')
    if trusted():
        return Config.fromstring(text, '.py')
    require_plain_config(text, weights)
    try:
        return copy_for_inference(read_values(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointFileError(
            f'the config in {weights} cannot be used unseen: {error}. {REMEDY}'
        ) from error
