"""Problems in the files of a data set, collected so that all are seen at once."""


class DataError(ValueError):
    """Something is wrong with a file of a data set; the message says what.

    Args:
        kind: Heading under which such problems are listed.
        detail: What is wrong in this case.
        where: The file, where it is not the one that is being read.
    """

    def __init__(self, kind: str, detail: str, where: str = '') -> None:
        super().__init__(detail)
        self.kind = kind
        self.where = where


class ProblemLog:
    """Problems by their kind, each with the file that it lies in."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, kind: str, where: str, detail: str = '') -> None:
        """Record a problem.

        Args:
            kind: Heading under which it is listed.
            where: The file, with the line if there is one.
            detail: What is wrong.
        """
        self._lines.setdefault(kind, []).append(f'{where}: {detail}' if detail else where)

    def add_error(self, error: DataError, where: str) -> None:
        """Record an error.

        Args:
            error: The error.
            where: The file it lies in, unless the error names another.
        """
        self.add(error.kind, error.where or where, str(error))

    @property
    def total(self) -> int:
        """Number of problems of all kinds."""
        return sum(map(len, self._lines.values()))

    def text(self, limit: int | None = None) -> str:
        """List the problems under their kinds.

        Args:
            limit: Most problems of a kind to list, all if None.

        Returns:
            One line a problem, and one that counts those that are not listed.
        """
        output = []
        for kind, lines in self._lines.items():
            shown = lines[:limit]
            output.append(f'{kind}: {len(lines)}')
            output += [f'  {line}' for line in shown]
            if len(shown) < len(lines):
                output.append(f'  ... and {len(lines) - len(shown)} more')
        return '\n'.join(output)
