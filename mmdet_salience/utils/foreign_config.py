"""The part of a checkpoint's config that inference needs, checked before anything is built of it.

MMEngine imports what a type names and no registry holds, so that a config runs whatever it likes.
Of a config that is not the user's own only the model, the test pipeline and the classes are taken,
as values that are never run as Python; their types have to be registered, their texts may name no
file, and nothing in them is loaded from elsewhere.
"""

import re
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NoReturn

import mmcv.ops
import mmengine.registry
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, TASK_UTILS, TRANSFORMS, Registry

from .config_types import type_name

# Where weights come from before those of the checkpoint; left out, since the checkpoint has all.
LEFT_OUT = ('init_cfg', 'pretrained')

# Here "pretrained" says how the model is built, too.
DESCRIBED_ELSEWHERE = 'TransformersBackbone'

# Types that read a folder or ask a server whenever they are built.
READING_TYPES = ('BertModel',)

# What lets a registered type read other files, ask a server, or run Python.
READERS = (
    'checkpoint', 'label_map_file', 'lang_model_name', 'language_model', 'teacher_ckpt',
    'teacher_config', 'tokenizer_name', 'use_pretrained_backbone', 'auto_map', 'trust_remote_code',
)  # fmt: skip
BACKENDS = ('backend_args', 'file_client_args')

# Arguments that a class may make a type of, as MMCV does of "padding_mode".
TYPE_LIKE = re.compile('type|cfg|mode|upsample')

# A name or a version such as "regnetx_3.2gf": no path, no address, no expression.
WORD = re.compile(r'(?:[\w+-]|\.(?=\d))*')
PLAIN = (int, float, bool, type(None))
MAX_SHOWN = 60


def all_registries() -> list[Registry]:
    """MMEngine's root registries."""
    return [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]


def walk_registry(registry: Registry) -> Iterator[Registry]:
    """Go through a registry and those of other packages below it."""
    yield registry
    for child in registry.children.values():
        yield from walk_registry(child)


def find_registered(name: str, roots: Collection[Registry]) -> Any:
    """Find what is registered, without MMEngine's import of what is not.

    Args:
        name: Its name, perhaps with the scope of its registry.
        roots: Registries in which it may be, or in those below them.

    Returns:
        The class or function; None if there is none of this name.
    """
    *scope, own = name.split('.')
    for registry in (found for root in roots for found in walk_registry(root)):
        if not scope or scope == [registry.scope]:
            registry.import_from_location()  # a package registers its classes when asked
            if own in registry.module_dict:
                return registry.module_dict[own]
    return None


def known_scopes() -> set[str]:
    """Scopes of all registries."""
    return {found.scope for root in all_registries() for found in walk_registry(root)}


def names_loose_module(word: str) -> bool:
    """Whether a word names a module that is not installed, as in the folder Python is run in.

    MMEngine would import it, where a class makes a type of it. One that is imported already, such
    as MMDetection from a checkout, runs nothing more.
    """
    if word in sys.modules:
        return False
    found = PathFinder.find_spec(word) if word.isidentifier() else None
    if found is None or found.origin is None or not found.has_location:
        return False
    origin = Path(found.origin).resolve()
    paths = map(sysconfig.get_path, ('stdlib', 'platstdlib', 'purelib', 'platlib'))
    return not any(origin.is_relative_to(Path(path).resolve()) for path in paths)


def refuse(key: str, value: Any, why: str) -> NoReturn:
    """Refuse a config; the message names the key."""
    raise ValueError(f'{key}={str(value)[:MAX_SHOWN]!r} {why}')


class Checker:
    """Copies a part of a config and checks it.

    Args:
        roots: Registries in which its types may be.
        others: Names that its types may have besides.
    """

    def __init__(self, roots: Collection[Registry], others: Collection[str] = ()) -> None:
        self.roots, self.others = roots, others

    def copy(self, key: str, value: Any, name: str = '') -> Any:
        """Copy a value.

        Args:
            key: Where it stands, as one writes it.
            value: Numbers, words, and containers of them.
            name: The argument that it belongs to, without what is around it.

        Returns:
            The copy, without :data:`LEFT_OUT`.

        Raises:
            ValueError: There is something that inference does not need and that could do harm.
        """
        if isinstance(value, Mapping):
            if type_name(value.get('type')) == DESCRIBED_ELSEWHERE and value.get('pretrained'):
                refuse(f'{key}.pretrained', value['pretrained'], 'describes the model elsewhere')
            return {
                inner: self.copy_entry(f'{key}.{inner}', str(inner), entry)
                for inner, entry in value.items()
                if inner not in LEFT_OUT
            }
        if isinstance(value, (list, tuple, set)):
            parts = [self.copy(f'{key}[{index}]', part, name) for index, part in enumerate(value)]
            return type(value)(parts)
        if isinstance(value, str):
            self.check_word(key, value, TYPE_LIKE.search(name) is not None)
        elif not isinstance(value, PLAIN):
            refuse(key, value, f'is a {type(value).__name__}')
        return value

    def copy_entry(self, key: str, name: str, value: Any) -> Any:
        """Copy an entry of a dictionary; as :meth:`copy`, ``name`` is the last part of ``key``."""
        if name == 'type':
            self.check_type(key, value)
            return value
        if name in READERS and value:
            refuse(key, value, 'reads other files')
        if name in BACKENDS and value and dict(value) != dict(backend='local'):
            refuse(key, value, 'reads images in another way than from files')
        if name == '_scope_' and value not in known_scopes():
            refuse(key, value, 'is the scope of no registry')
        return self.copy(key, value, name)

    def check_type(self, key: str, value: Any) -> None:
        """Make sure that a type is registered."""
        if not isinstance(value, str):
            refuse(key, value, 'is no name')
        known = value in self.others or find_registered(value, self.roots) is not None
        if not known:
            refuse(key, value, 'is not registered; import the package that registers it first')
        if type_name(value) in READING_TYPES:
            refuse(key, value, 'reads other files')
        if names_loose_module(value):
            refuse(key, value, 'is also the name of a module, which could be imported instead')

    def check_word(self, key: str, value: str, is_type: bool) -> None:
        """Make sure that a text names no file or expression, and no module if it may be a type."""
        if not WORD.fullmatch(value):
            refuse(key, value, 'is no plain word')
        if is_type and names_loose_module(value):
            refuse(key, value, 'is the name of a module, which could be imported')


def find_dataset(dataset: Any) -> Mapping[str, Any]:
    """Find the dataset with a pipeline, within wrappers, as MMDetection does.

    Args:
        dataset: Config of a dataset.

    Returns:
        Config of the inner one.

    Raises:
        ValueError: There is none.
    """
    while isinstance(dataset, Mapping) and 'pipeline' not in dataset:
        inner = dataset.get('datasets')
        dataset = inner[0] if isinstance(inner, (list, tuple)) and inner else dataset.get('dataset')
    pipeline = dataset['pipeline'] if isinstance(dataset, Mapping) else None
    if not pipeline or not is_list_of(pipeline, Mapping) or not all(map(has_type, pipeline)):
        raise ValueError('test_dataloader.dataset has no pipeline of transforms')
    return dataset


def has_type(value: Any) -> bool:
    """Whether something could be built of a value."""
    return isinstance(value, Mapping) and 'type' in value


def copy_metainfo(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the names and colours of the classes.

    Args:
        dataset: Config of a dataset.

    Returns:
        ``classes`` and ``palette``, those of the dataset's class where the config has none.

    Raises:
        ValueError: They are no lists of names and of numbers.
    """
    kind = find_registered(str(dataset.get('type')), [DATASETS])
    stated = dataset.get('metainfo') or {}
    if not isinstance(stated, Mapping):
        refuse('metainfo', stated, 'is no dictionary')
    classes, palette = stated.get('classes'), stated.get('palette')
    if classes is not None and not is_list_of(classes, str):
        refuse('metainfo.classes', classes, 'is no list of names')
    if palette is not None and not is_palette(palette):
        refuse('metainfo.palette', palette, 'is no list of colours')
    own = dict(getattr(kind, 'METAINFO', {}))
    return {**own, **{key: stated[key] for key in ('classes', 'palette') if stated.get(key)}}


def is_palette(value: Any) -> bool:
    """Whether a value names a palette, or lists colours."""
    if isinstance(value, str):
        return WORD.fullmatch(value) is not None
    return is_list_of(value, (list, tuple)) and all(is_list_of(colour, int) for colour in value)


def is_list_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value is a list or tuple of things of a kind."""
    return isinstance(value, (list, tuple)) and all(isinstance(part, kind) for part in value)


def copy_for_inference(values: Mapping[str, Any]) -> Config:
    """Make a config for inference out of one that is not the user's own.

    Args:
        values: The whole config, as plain values.

    Returns:
        Model, test pipeline, classes and colours; all else is left out.

    Raises:
        ValueError: One of them is missing, or could do harm; the message names the key.
    """
    model, loader = values.get('model'), values.get('test_dataloader')
    if not has_type(model):
        raise ValueError('there is no model')
    dataset = find_dataset(loader.get('dataset') if isinstance(loader, Mapping) else None)
    operators = Checker([MODELS, TASK_UTILS], mmcv.ops.__all__)  # such as "nms"
    inner = dict(
        type='mmdet.BaseDetDataset',
        metainfo=copy_metainfo(dataset),
        pipeline=Checker([TRANSFORMS]).copy('test_pipeline', dataset['pipeline']),
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=operators.copy('model', model),
            test_dataloader=dict(dataset=inner),
            visualizer=dict(type='mmdet.DetLocalVisualizer'),
        )
    )
