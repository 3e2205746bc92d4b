"""Repair of the list of images: repeated entries, missing files, sizes."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..image_header import ImageHeader, Progress, read_headers
from .annotation_table import AnnotationTable, Id
from .box_checks import find_overhang
from .file_spelling import find_spellings
from .image_files import find_existing
from .repair_draft import Draft

Size = tuple[float, float]


class BoxFit(NamedTuple):
    """Whether an image has boxes, and whether they fit its declared size and that of its file."""

    exist: bool
    fit_declared: bool
    fit_file: bool


def _path(image: dict[str, Any]) -> str:
    """Normal form of the file name of an image."""
    return os.path.normpath(image['file_name'])


def find_ambiguous_ids(images: list[dict[str, Any]]) -> set[Id]:
    """Find ids that images of different files share, so that boxes cannot be told apart.

    Args:
        images: Entries of the images.

    Returns:
        The ids.
    """
    paths: dict[Id, str] = {}
    return {
        image['id']
        for image in images
        if paths.setdefault(image['id'], _path(image)) != _path(image)
    }


def _declared_size(image: dict[str, Any]) -> Size | None:
    """Width and height in pixels of an entry, None if one is missing."""
    sides = [image.get(key) for key in ('width', 'height')]
    width, height = (side if isinstance(side, int | float) and side > 0 else 0 for side in sides)
    return (width, height) if width and height else None


def _merge_entries(entries: list[dict[str, Any]]) -> bool:
    """Merge entries of one file into the first of them, in place.

    Args:
        entries: At least two entries.

    Returns:
        False if they have different sizes, and nothing was changed.
    """
    sizes = {size for entry in entries if (size := _declared_size(entry)) is not None}
    if len(sizes) > 1:
        return False
    for width, height in sizes:
        entries[0].update(width=width, height=height)
    return True


def _report_ambiguous(draft: Draft) -> set[Id]:
    """Leave ids that different files share to a person; the ids."""
    ambiguous = find_ambiguous_ids(draft.images)
    names: dict[Id, list[str]] = {image_id: [] for image_id in ambiguous}
    for image in draft.images:
        if image['id'] in ambiguous:
            names[image['id']].append(image['file_name'])
    draft.left += [
        f'image id {image_id} stands for {", ".join(names[image_id])}; give each image an id of '
        'its own and its annotations the right one'
        for image_id in names
    ]
    return ambiguous


def merge_images(draft: Draft) -> set[Id]:
    """Merge entries of the same file; annotations go to the first of them.

    Args:
        draft: Changed in place. Ids that different files share and entries with different sizes
            are left to a person.

    Returns:
        The ids of the images that are left; the size that their boxes refer to is not certain.
    """
    ambiguous = _report_ambiguous(draft)
    undecided = set(ambiguous)
    groups: dict[str, list[int]] = {}
    for row, image in enumerate(draft.images):
        groups.setdefault(_path(image), []).append(row)
    new_ids: dict[Id, Id] = {}
    is_dropped = np.zeros(len(draft.images), bool)
    for path, rows in groups.items():
        entries = [draft.images[row] for row in rows]
        if len(rows) == 1 or any(entry['id'] in ambiguous for entry in entries):
            continue
        if not _merge_entries(entries):
            draft.left.append(f'{path} is listed with different sizes; keep the right entry')
            undecided.update(entry['id'] for entry in entries)
            continue
        is_dropped[rows[1:]] = True
        new_ids.update((entry['id'], entries[0]['id']) for entry in entries[1:])
    draft.count('merge_image', draft.drop('images', is_dropped))
    draft.map_annotations('image_id', lambda old: new_ids.get(old, old))
    return undecided


def object_to_size(
    declared: Size, header: ImageHeader, boxes: BoxFit, small: int = 2
) -> str | None:
    """Say why the size of the file must not simply replace the declared one.

    Boxes may have been drawn on an image that was resized or turned later. Then the declared size
    is the one that they belong to, and taking the file's would hide that.

    Args:
        declared: Width and height in the annotations, 0 where missing.
        header: Header of the file.
        boxes: What the boxes of the image say.
        small: A difference of at most this many pixels is a slip.

    Returns:
        The objection, None if there is none.
    """
    if not boxes.fit_file:
        return 'a box does not fit into the file'
    if not boxes.exist or not boxes.fit_declared:
        return None
    if min(declared) < 1:
        return 'boxes may be from before the EXIF turn' if header.is_turned else None
    (width, height), (file_width, file_height) = declared, header.size
    if max(abs(width - file_width), abs(height - file_height)) <= small:
        return None
    if (height, width) == header.size:
        return 'the image seems to have been turned'
    if abs(width * file_height - file_width * height) <= (width + height) / 2:
        return 'the image seems to have been resized'
    return None


def _measure_fit(
    table: AnnotationTable,
    headers: list[ImageHeader | None],
    tolerance: float,
    slack: float = 0.1,
) -> list[BoxFit]:
    """Compare the boxes of each image with both of its sizes.

    Args:
        table: N images and their annotations.
        headers: N headers, None for an image without a readable file.
        tolerance: Pixels by which a box may leave its image.
        slack: Share of its short side by which a box may leave the declared size, before this
            speaks against that size and not against the box.

    Returns:
        N results.
    """
    sizes = np.array([(0, 0) if header is None else header.size for header in headers])
    short_sides = table.image_sizes.min(1)[table.image_rows]

    def has_any(mask: np.ndarray) -> np.ndarray:
        """Which images have an annotation in a mask (M,); bool (N,)."""
        return np.bincount(table.image_rows[mask], minlength=len(headers)) > 0

    columns = (
        has_any(table.image_rows >= 0),
        ~has_any(find_overhang(table) > np.maximum(tolerance, slack * short_sides)),
        ~has_any(find_overhang(table._replace(image_sizes=sizes)) > tolerance),
    )
    return [BoxFit(*values) for values in np.stack(columns, 1).tolist()]


def _repair_sizes(
    draft: Draft, table: AnnotationTable, headers: list[ImageHeader | None], tolerance: float
) -> set[Id]:
    """Fill in and correct sizes from the files where that is safe.

    Args:
        draft: Changed in place.
        table: Its columns.
        headers: N headers, None for an image without a readable file.
        tolerance: Pixels by which a box may leave its image.

    Returns:
        Ids of the images of which a person has to decide the size.
    """
    fits = _measure_fit(table, headers, tolerance)
    ambiguous, undecided = find_ambiguous_ids(draft.images), set()
    for row, (image, header) in enumerate(zip(draft.images, headers, strict=True)):
        width, height = table.image_sizes[row].tolist()
        if header is None or header.size == (width, height) or image['id'] in ambiguous:
            continue
        objection = object_to_size((width, height), header, fits[row])
        if objection is None:
            image['width'], image['height'] = header.size
            draft.count('correct_size' if min(width, height) > 0 else 'fill_size', 1)
            continue
        undecided.add(image['id'])
        draft.left.append(
            f'{image["file_name"]} has {width}x{height} in the annotations and '
            f'{header.size[0]}x{header.size[1]} in the file: {objection}'
        )
    return undecided


def _drop_images(draft: Draft, table: AnnotationTable, rows: np.ndarray) -> None:
    """Drop images, a mask (N,) of the draft's as its columns have them, and their annotations."""
    is_of_them = rows[table.image_rows] & (table.image_rows >= 0)
    draft.count('drop_with_image', draft.drop('annotations', is_of_them))
    draft.drop('images', rows)


def drop_thin(draft: Draft, max_ratio: float) -> None:
    """Drop images that are too thin for the pipeline, and their annotations.

    Args:
        draft: Changed in place; images with an ambiguous id stay.
        max_ratio: Ratio of long to short side from which on an image is too thin.
    """
    table, ambiguous = draft.make_table(), find_ambiguous_ids(draft.images)
    is_thin = table.image_sizes.max(1) >= max_ratio * table.image_sizes.min(1).clip(1)
    is_thin &= np.array([image_id not in ambiguous for image_id in table.image_ids.tolist()])
    draft.count('drop_thin_image', int(is_thin.sum()))
    _drop_images(draft, table, is_thin)


def _match_file_names(draft: Draft, image_root: str | Path) -> None:
    """Take the names of the files for images that are missing only because of their spelling."""
    names = [image['file_name'] for image in draft.images]
    exists = find_existing(image_root, names)
    missing = [name for name, is_there in zip(names, exists, strict=True) if not is_there]
    spellings = find_spellings(image_root, missing)
    for image in draft.images:
        image['file_name'] = spellings.get(image['file_name'], image['file_name'])
    draft.count('match_file_name', sum(name in spellings for name in missing))


def _drop_gone(
    draft: Draft, table: AnnotationTable, exists: np.ndarray, is_gone: np.ndarray
) -> None:
    """Drop images without a readable file, and their annotations.

    Args:
        draft: Changed in place.
        table: Its columns.
        exists: (N,) bool, whether the file is there.
        is_gone: (N,) bool, which images to drop.
    """
    draft.count('drop_missing_image', int((is_gone & ~exists).sum()))
    draft.count('drop_unreadable_image', int((is_gone & exists).sum()))
    _drop_images(draft, table, is_gone)


def repair_files(
    draft: Draft,
    image_root: str | Path,
    tolerance: float,
    progress: Progress | None = None,
    pixels: bool = False,
) -> set[Id]:
    """Compare the images with their files: spell them alike, drop those without one, fix sizes.

    Args:
        draft: Changed in place; images with an ambiguous id stay.
        image_root: Folder that the file names start from.
        tolerance: Pixels by which a box may leave its image.
        progress: Shows a progress bar, if given.
        pixels: Whether to decode the images, so that those with damaged pixels are dropped too.

    Returns:
        Ids of the images of which a person has to decide the size.

    Raises:
        ValueError: If no image would be left.
    """
    _match_file_names(draft, image_root)
    table = draft.make_table()
    exists = find_existing(image_root, table.file_names)
    rows = np.flatnonzero(exists).tolist()
    paths = [os.path.join(image_root, table.file_names[row]) for row in rows]
    read = read_headers(paths, progress, pixels=pixels) if rows else []
    found = dict(zip(rows, read, strict=True))
    headers = [found.get(row) for row in range(len(exists))]
    if not any(headers):
        raise ValueError(
            f'none of the {len(headers)} images is readable in {image_root}, so nothing would be '
            'left; check the image folder'
        )
    ambiguous = find_ambiguous_ids(draft.images)
    undecided = _repair_sizes(draft, table, headers, tolerance)
    is_kept = [
        header is not None or image['id'] in ambiguous
        for header, image in zip(headers, draft.images, strict=True)
    ]
    _drop_gone(draft, table, exists, ~np.array(is_kept))
    return undecided
