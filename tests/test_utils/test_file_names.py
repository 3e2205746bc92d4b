"""Names that differ, by hand."""

import pytest

from mmdet_salience.utils.file_names import distinct_names


@pytest.mark.parametrize(
    'names, expected',
    [
        (['a', 'b'], ['a', 'b']),
        (['a', 'a', 'a'], ['a', 'a_2', 'a_3']),
        (['a', 'A', 'b'], ['a', 'A_2', 'b']),
        (['a', 'a', 'a_2'], ['a', 'a_3', 'a_2']),
        (['a_2', 'a', 'a', 'a_2'], ['a_2', 'a', 'a_3', 'a_2_2']),
        ([], []),
    ],
)
def test_repeated_names_are_numbered(names: list[str], expected: list[str]) -> None:
    assert distinct_names(names) == expected
