"""Import this before ``mmdet_salience`` in a tool that needs the package's data modules only.

The package registers its detectors as it is imported, and PyTorch and MMDetection with them take
seconds. Here ``mmdet_salience.datasets`` is found without that. Whoever asks the package for
anything but a module that is imported, such as ``mmdet_salience.models``, gets the whole package.
"""

import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = 'mmdet_salience'


class DataPackage(ModuleType):
    """The package before its ``__init__`` has run, which runs where it is needed."""

    def __getattr__(self, name: str) -> Any:
        """Run ``__init__`` and look again; special names, which Python asks for, do not do so."""
        if name.startswith('__'):
            raise AttributeError(f'{self.__name__} has no {name}')
        self.__class__ = ModuleType
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def prefer_data_package() -> None:
    """Let imports find the checkout this file lies in, if any, and no more of it than they name."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / NAME).is_dir():
        sys.path.insert(0, str(checkout))
    spec = find_spec(NAME)
    if spec is not None and NAME not in sys.modules:
        package = module_from_spec(spec)
        package.__class__ = DataPackage
        sys.modules[NAME] = package


prefer_data_package()
