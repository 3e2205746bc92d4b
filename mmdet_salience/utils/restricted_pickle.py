"""A pickle module for ``torch.load`` that creates nothing but a given list of classes.

PyTorch before 2.6 has no list of classes that a user can extend, and its ``weights_only`` can be
got round there (CVE-2025-32434). ``torch.load(..., pickle_module=...)`` takes this module instead.
"""

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Mapping
from typing import Any, BinaryIO

# Filled by safe_load.py: what a checkpoint may name, by "module.name".
ALLOWED: dict[str, Any] = {}


class Unpickler(pickle.Unpickler):
    """Unpickler that finds only what :data:`ALLOWED` lists."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Find a class or function.

        Args:
            module_name: Its module.
            global_name: Its name in there.

        Returns:
            The object.

        Raises:
            pickle.UnpicklingError: It is not in the list.
        """
        renamed = (IMPORT_MAPPING.get(module_name, module_name), global_name)
        # Files are written with the names of Python 2.
        name = '.'.join(NAME_MAPPING.get((module_name, global_name), renamed))
        if name not in ALLOWED:
            raise pickle.UnpicklingError(f'GLOBAL {name} was not allowed')
        return ALLOWED[name]


def load(file: BinaryIO, **options: Any) -> Any:
    """Read one object, as ``pickle.load`` does.

    Args:
        file: An open file.
        **options: Options of the unpickler.

    Returns:
        The object.
    """
    return Unpickler(file, **options).load()


def allow(names: Mapping[str, Any]) -> None:
    """Add to what may be found.

    Args:
        names: Objects by "module.name".
    """
    ALLOWED.update(names)
