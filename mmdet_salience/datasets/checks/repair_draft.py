"""The copy that a repair works on, with a count of what was done to it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .annotation_table import AnnotationTable, build_annotation_table

ACTIONS = {
    'merge_category': 'categories of the same name merged',
    'match_category': 'categories renamed, moved or added to be those of the reference',
    'drop_parent_category': 'categories dropped that were only the parent of the others',
    'match_file_name': 'file names written as the files are spelt',
    'merge_image': 'entries of the same image file merged',
    'drop_missing_image': 'images dropped because their file is missing',
    'drop_unreadable_image': 'images dropped because their file is not a readable image',
    'drop_thin_image': 'images dropped because they are too thin to be resized',
    'drop_with_image': 'annotations dropped with these images',
    'fill_size': 'missing image sizes read from the files',
    'correct_size': 'wrong image sizes corrected from the files',
    'drop_unknown_image': 'annotations of images that are not listed dropped',
    'drop_unknown_category': 'annotations of categories that are not listed dropped',
    'scale_box': "boxes scaled from shares of the image's sides to pixels",
    'drop_degenerate_box': 'annotations dropped because their box has no extent',
    'drop_outside_box': 'annotations dropped because less than 1 px of their box is in the image',
    'clip_box': 'boxes clipped to their image',
    'fill_area': 'missing or non-positive areas set to width x height',
    'fill_crowd_flag': 'missing iscrowd flags set to 0',
    'renumber_annotation': 'annotations numbered anew because their id is repeated, 0 or a text',
}


@dataclass
class Draft:
    """A copy of the annotations that may be changed; nested values are shared with the original.

    Attributes:
        content: The copy.
        actions: How often each of :data:`ACTIONS` was done.
        left: What a person has to decide, a line each.
    """

    content: dict[str, Any]
    actions: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """Entries of the categories."""
        return self.content['categories']

    @property
    def images(self) -> list[dict[str, Any]]:
        """Entries of the images."""
        return self.content['images']

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """Entries of the annotations, none in a test set."""
        return self.content.get('annotations', [])

    def make_table(self) -> AnnotationTable:
        """Columns of the copy as it is now."""
        return build_annotation_table(self.content, 'the repaired copy')

    def drop(self, key: str, rows: np.ndarray) -> int:
        """Drop entries.

        Args:
            key: ``images`` or ``annotations``.
            rows: Mask of the entries to drop.

        Returns:
            How many these are.
        """
        if rows.any():
            entries = zip(self.content[key], rows.tolist(), strict=True)
            self.content[key] = [entry for entry, is_dropped in entries if not is_dropped]
        return int(rows.sum())

    def map_annotations(self, key: str, change: Callable[[Any], Any]) -> None:
        """Replace the values of a key of all annotations.

        Args:
            key: The key.
            change: Turns an old value into a new one.
        """
        for annotation in self.annotations:
            annotation[key] = change(annotation[key])

    def count(self, action: str, number: int) -> None:
        """Note that something was done; nothing is noted for 0 times."""
        if number:
            self.actions[action] += number


def start_draft(content: dict[str, Any]) -> Draft:
    """Copy annotations, as deep as repairs reach.

    Args:
        content: Content of an annotation file.

    Returns:
        The draft.
    """
    lists: dict[str, Any] = {
        key: [dict(entry) for entry in content[key]]
        for key in ('images', 'annotations', 'categories')
        if key in content
    }
    return Draft({**content, **lists})
