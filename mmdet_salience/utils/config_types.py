"""Types in configs, which are classes or names."""

from typing import Any


def type_name(kind: Any) -> str:
    """Name of a type in a config, which may be a class, or a string with a scope."""
    return str(getattr(kind, '__name__', kind)).split('.')[-1]
