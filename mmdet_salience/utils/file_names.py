"""Names of files that are written side by side."""

from collections.abc import Sequence


def distinct_names(names: Sequence[str], mark: str = '_') -> list[str]:
    """Make names differ, so that no file replaces another one, by numbers behind repeated ones.

    Names that differ in case only count as equal: some file systems do not tell them apart.

    Args:
        names: Names without suffix.
        mark: What stands before the number.

    Returns:
        The names; the first of equal ones stays as it is, and none becomes another one of them.
    """
    given = {name.casefold() for name in names}
    used: set[str] = set()
    numbers: dict[str, int] = {}
    found = []
    for name in names:
        key, new = name.casefold(), name
        while new.casefold() in (used if new == name else used | given):
            numbers[key] = numbers.get(key, 1) + 1
            new = f'{name}{mark}{numbers[key]}'
        used.add(new.casefold())
        found.append(new)
    return found
