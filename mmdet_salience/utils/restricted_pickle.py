"""An unpickler for ``torch.load`` that creates nothing but weights and plain values.

PyTorch's own ``weights_only`` also rebuilds sparse, nested and quantised tensors from numbers that
it does not check, has no such list before 2.6, and can be got round in earlier versions
(CVE-2025-32434). ``torch.load(..., pickle_module=...)`` takes what :func:`pickle_module` makes.

The pure Python unpickler of the standard library is used: its operations can be replaced one by
one, and unlike the one in C it allocates nothing because a file says so.
"""

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, BinaryIO, ClassVar

import torch
from mmengine.logging.history_buffer import HistoryBuffer

from .pickled_arrays import refuse
from .pickled_values import ALLOWED, BUILDERS, FUNCTIONS, require_plain_key

# Operations that create objects in ways that no checkpoint needs, or reserve memory first.
REFUSED_OPERATIONS = (
    pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4,
    pickle.PERSID, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip

# Fields of a storage's reference after the word "storage": type, key, device, number of elements,
# and in files before the zip format a view.
REFERENCE_FIELDS = (4, 5)


class Unpickler(pickle._Unpickler):
    """Unpickler that finds, calls and changes only what ``pickled_values.py`` lists.

    Attributes:
        sizes: Bytes of each storage by its key, None in a file that does not list them.
        limit: Bytes of the file.
        seen: Keys of the storages that were asked for.
    """

    sizes: ClassVar[Mapping[str, int] | None] = None
    limit: ClassVar[int] = 0
    seen: ClassVar[set] = set()
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    # What the standard library's has and its type information does not.
    stack: list[Any]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Find a class or function.

        Args:
            module_name: Its module.
            global_name: Its name in there.

        Returns:
            The object, or what stands in for it.

        Raises:
            pickle.UnpicklingError: It is not in the list.
        """
        renamed = (IMPORT_MAPPING.get(module_name, module_name), global_name)
        # Files are written with the names of Python 2.
        name = '.'.join(NAME_MAPPING.get((module_name, global_name), renamed))
        if name not in ALLOWED:
            refuse(name)
        return ALLOWED[name]

    def call(self) -> None:
        """Call a function of the list."""
        arguments, function = self.stack.pop(), self.stack[-1]
        if not any(function is one for one in FUNCTIONS):
            refuse(f'call of {getattr(function, "__name__", type(function).__name__)}')
        self.stack[-1] = function(*arguments)

    def create(self) -> None:
        """Create an object without calling its class; only a history is made in this way."""
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is not HistoryBuffer or arguments != ():
            refuse(f'object of {getattr(kind, "__name__", type(kind).__name__)}')
        self.append(HistoryBuffer.__new__(HistoryBuffer))

    def build(self) -> None:
        """Give an object its state; what stood in for another object is replaced by that."""
        state, instance = self.stack.pop(), self.stack[-1]
        if type(instance) not in BUILDERS:
            refuse(f'state of {type(instance).__name__}')
        built = self.stack[-1] = BUILDERS[type(instance)](instance, state)
        if built is not instance:
            for index, kept in self.memo.items():
                if kept is instance:
                    self.memo[index] = built

    def set_items(self) -> None:
        """Put entries into a dictionary."""
        items = self.pop_mark()
        self.fill(items)

    def set_item(self) -> None:
        """Put one entry into a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def make_dict(self) -> None:
        """Make a dictionary of the entries."""
        items = self.pop_mark()
        self.append({})
        self.fill(items)

    def fill(self, items: list) -> None:
        """Put keys and values, in turn, into the dictionary on the stack."""
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict, Counter):
            refuse(f'entry of {type(target).__name__}')
        for key, value in zip(items[::2], items[1::2], strict=True):
            require_plain_key(key)
            target[key] = value

    def extend(self, items: list) -> None:
        """Put values into the list on the stack."""
        target = self.stack[-1]
        if type(target) is not list:
            refuse(f'item of {type(target).__name__}')
        target.extend(items)

    def append_one(self) -> None:
        """Put a value into a list."""
        item = self.stack.pop()
        self.extend([item])

    def append_all(self) -> None:
        """Put values into a list."""
        self.extend(self.pop_mark())

    def add_items(self) -> None:
        """Put values into a set."""
        items, target = self.pop_mark(), self.stack[-1]
        if type(target) is not set:
            refuse(f'element of {type(target).__name__}')
        for item in items:
            require_plain_key(item)
        target.update(items)

    def make_frozen_set(self) -> None:
        """Make a set that does not change."""
        items = self.pop_mark()
        for item in items:
            require_plain_key(item)
        self.append(frozenset(items))

    def find_storage(self) -> None:
        """Take a storage from the file, once its size is known to be right."""
        reference = self.stack.pop()
        self.check_reference(reference)
        self.append(self.persistent_load(reference))

    def check_reference(self, reference: Any) -> None:
        """Compare what a file says about a storage with what it holds.

        Args:
            reference: The word "storage", type, key, device and number of elements.

        Raises:
            pickle.UnpicklingError: It is no reference to a storage, or its size is another.
        """
        if type(reference) is not tuple or len(reference) - 1 not in REFERENCE_FIELDS:
            refuse('reference to something else than a storage')
        word, kind, key, _, count = reference[:5]
        dtype = torch.uint8 if kind is torch.UntypedStorage else getattr(kind, 'dtype', None)
        if word not in ('storage', b'storage') or not isinstance(dtype, torch.dtype):
            refuse('reference to something else than a storage')
        if str(dtype).startswith('torch.q'):
            refuse('quantised storage')
        if type(count) is not int or type(key) not in (str, int):
            raise pickle.UnpicklingError(f'a storage has the key {key!r} and {count!r} elements')
        self.seen.add(key)
        size = count * dtype.itemsize
        found = self.limit if self.sizes is None else self.sizes.get(str(key), -1)
        if size < 0 or size > found or (self.sizes is not None and size != found):
            raise pickle.UnpicklingError(f'storage {key} has {found} bytes, and not {size}')

    def refuse_operation(self) -> None:
        """Refuse an operation."""
        refuse('operation that no checkpoint needs')


for operation, method in {
    pickle.REDUCE: Unpickler.call,
    pickle.NEWOBJ: Unpickler.create,
    pickle.BUILD: Unpickler.build,
    pickle.SETITEM: Unpickler.set_item,
    pickle.SETITEMS: Unpickler.set_items,
    pickle.DICT: Unpickler.make_dict,
    pickle.APPEND: Unpickler.append_one,
    pickle.APPENDS: Unpickler.append_all,
    pickle.ADDITEMS: Unpickler.add_items,
    pickle.FROZENSET: Unpickler.make_frozen_set,
    pickle.BINPERSID: Unpickler.find_storage,
    **dict.fromkeys(REFUSED_OPERATIONS, Unpickler.refuse_operation),
}.items():
    Unpickler.dispatch[operation[0]] = method


def pickle_module(sizes: Mapping[str, int] | None, limit: int) -> Any:
    """Make what ``torch.load`` takes as ``pickle_module`` for one file.

    Args:
        sizes: Bytes of each storage by its key, None in a file that does not list them.
        limit: Bytes of the file.

    Returns:
        An object with ``Unpickler`` and ``load``.
    """
    seen: set = set()
    kind = type('Unpickler', (Unpickler,), dict(sizes=sizes, limit=limit, seen=seen))

    def load(file: BinaryIO, **options: Any) -> Any:
        """Read one object, as ``pickle.load`` does."""
        found = kind(file, **options).load()
        # In files before the zip format the list of the storages that follow.
        if seen and not seen <= set(found):
            raise pickle.UnpicklingError('storages are missing')
        return found

    return SimpleNamespace(__name__='restricted_pickle', Unpickler=kind, load=load)
