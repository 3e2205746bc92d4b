"""Files of LabelMe: their content, the images they belong to, and the splits, for the converter."""

import argparse
import base64
import binascii
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from _conversion import Report, output_folder
from _split_lists import (
    IMAGE_SUFFIXES,
    Sample,
    SplitChoice,
    divide_files,
    drop_shared,
    find_splits,
    list_files,
    relative_name,
)
from PIL import Image

from mmdet_salience.datasets.conversion.coco_writer import ImageSize, read_image_size, write_files
from mmdet_salience.datasets.conversion.data_problems import DataError
from mmdet_salience.datasets.conversion.mask_classes import UNREADABLE


class LabelmeFile(NamedTuple):
    """Content of a file, without its pixels.

    ``shapes`` are its objects, ``image_path`` is what it says about the place of its image,
    ``size`` the width and height that it notes, None where it does not. ``has_pixels`` tells that
    it holds the image too.
    """

    shapes: list[Mapping[str, Any]]
    image_path: str
    size: tuple[int, int] | None
    has_pixels: bool


def _load(path: Path, where: str) -> dict[str, Any]:
    """Parse a file; raises DataError."""
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError('broken JSON files', str(error), where) from error
    if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
        detail = 'expected an object with the list shapes'
        raise DataError('JSON files that are not of LabelMe', detail, where)
    return content


def read_labelme(path: Path, where: str) -> LabelmeFile:
    """Read a file.

    Args:
        path: The file.
        where: How to call it in problems.

    Returns:
        Its content.

    Raises:
        DataError: If it cannot be read or is not one of LabelMe.
    """
    content = _load(path, where)
    if not all(isinstance(shape, dict) for shape in content['shapes']):
        raise DataError('broken JSON files', 'a shape is no object', where)
    sides = (content.get('imageWidth'), content.get('imageHeight'))
    size = sides if all(isinstance(side, int) and side > 0 for side in sides) else None
    image_path = str(content.get('imagePath') or '').replace('\\', '/')
    return LabelmeFile(content['shapes'], image_path, size, bool(content.get('imageData')))


def find_image(path: Path, image_path: str, image_dir: Path) -> Path | None:
    """Find the image of a file.

    ``imagePath`` starts from the file's folder and goes stale when files are moved, so that its
    name alone counts then, and at last the name of the JSON file.

    Args:
        path: The JSON file.
        image_path: Its ``imagePath``, with ``/`` between folders.
        image_dir: Another folder to look in.

    Returns:
        The image, None if there is none.
    """
    name = PurePosixPath(image_path).name
    places = [path.parent / image_path] if name else []
    places += [folder / name for folder in (path.parent, image_dir) if name]
    for folder in (path.parent, image_dir):
        places += [folder / f'{path.stem}{suffix}' for suffix in IMAGE_SUFFIXES]
        places += [folder / f'{path.stem}{suffix.upper()}' for suffix in IMAGE_SUFFIXES]
    return next((place for place in places if os.path.isfile(place)), None)


def read_held_image(path: Path, where: str) -> tuple[bytes, str]:
    """Read the image that a file holds.

    Args:
        path: The JSON file.
        where: How to call it in problems.

    Returns:
        Content of an image file, and its suffix.

    Raises:
        DataError: If there is no image in it.
    """
    try:
        pixels = base64.b64decode(_load(path, where)['imageData'], validate=True)
        with Image.open(io.BytesIO(pixels)) as image:
            suffix = {'JPEG': '.jpg', 'MPO': '.jpg'}.get(image.format, f'.{image.format}'.lower())
    except (TypeError, binascii.Error, *UNREADABLE) as error:
        raise DataError('broken images in JSON files', str(error), where) from error
    return pixels, suffix


def plan_image(path: Path, target: Path, where: str) -> tuple[Path, ImageSize]:
    """Find out where the image that a file holds is to be written.

    Args:
        path: The JSON file.
        target: The image, without suffix.
        where: How to call the JSON file in problems.

    Returns:
        The image and its size; one that is there already has the same content.

    Raises:
        DataError: If the file holds no image, or another one is in the way.
    """
    pixels, suffix = read_held_image(path, where)
    file = target.with_name(f'{target.name}{suffix}')
    if os.path.lexists(file) and not _holds(file, pixels):
        raise DataError('files in the way of --extract-images', str(file), where)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, file.name)
        draft.write_bytes(pixels)
        return file, read_image_size(draft)


def _holds(file: Path, content: bytes) -> bool:
    """Whether a file has this content."""
    return os.path.isfile(file) and file.read_bytes() == content


def write_planned(planned: Mapping[Path, Path]) -> None:
    """Write images that JSON files hold; those that are there already stay.

    Args:
        planned: The JSON file of each image.

    Raises:
        SystemExit: If one cannot be written.
    """
    for file, path in planned.items():
        pixels, _ = read_held_image(path, str(path))
        try:
            if not _holds(file, pixels):
                write_files({file: pixels})
        except OSError as error:
            raise SystemExit(f'error: {error}; name another folder by --extract-images') from error


def _image_of(
    path: Path, content: LabelmeFile, where: str, args: argparse.Namespace, root: Path
) -> tuple[Path, ImageSize | None]:
    """The image of a file, and its size if it is to be written; DataError if there is none."""
    image = find_image(path, content.image_path, root / args.image_dir)
    if image is not None:
        return image, None
    if content.has_pixels and args.extract_images is not None:
        target = root / args.extract_images / path.relative_to(root).with_suffix('')
        return plan_image(path, target, where)
    if content.has_pixels:
        detail = '--extract-images DIR writes it'
        raise DataError('images that only the JSON file holds', detail, where)
    detail = f'imagePath is {content.image_path!r}; name the folder of images by --image-dir'
    raise DataError('missing images', detail, where)


def _is_coco(path: Path) -> bool:
    """Whether a file is an annotation file as the converters write it."""
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError):
        return False  # reading it as LabelMe's says what is wrong with it
    if not isinstance(content, dict) or 'shapes' in content:
        return False
    return {'images', 'categories'} <= content.keys()


def split_files(
    root: Path, files: Sequence[Path] | None, args: argparse.Namespace, choice: SplitChoice
) -> dict[str, list[Path]]:
    """Find the JSON files of each split.

    Args:
        root: The data root.
        files: The files, where the command line names one.
        args: The command line.
        choice: What it says about splits.

    Returns:
        The files; all are in the one split of ``--splits`` where nothing divides them.

    Raises:
        SystemExit: If there are none, or too few for the ratio.
    """
    if '{split}' in args.ann_dir:
        remedy = 'name the folder of JSON files by --ann-dir and the splits by --splits'
        folders = find_splits(str(root / args.ann_dir), choice, remedy)
        return {split: list_files(folder, ('.json',)) for split, folder in folders.items()}
    folder, out_dir = root / args.ann_dir, os.path.realpath(output_folder(args))
    found = list_files(folder, ('.json',)) if files is None else files
    found = [p for p in found if os.path.realpath(p.parent) != out_dir or not _is_coco(p)]
    if not found:
        raise SystemExit(f'error: no JSON file in {folder}; name their folder by --ann-dir')
    return divide_files(found, root, choice, 'files')


def _note_unlabelled(samples: Mapping[str, Sequence[Sample]], root: Path, report: Report) -> None:
    """Note images beside the JSON files that have none; LabelMe writes none for them."""
    used = {os.path.realpath(sample.image) for items in samples.values() for sample in items}
    folders = {s.image.parent for items in samples.values() for s in items}
    for folder in sorted(filter(os.path.isdir, folders)):  # that of planned images may be new
        for image in list_files(folder, IMAGE_SUFFIXES):
            if image.parent == folder and os.path.realpath(image) not in used:
                report.notes.add('images without a JSON file, left out', relative_name(image, root))


def collect_labelme(
    root: Path, splits: Mapping[str, Sequence[Path]], args: argparse.Namespace, report: Report
) -> tuple[dict[str, list[Sample]], dict[Path, LabelmeFile], dict[Path, ImageSize]]:
    """Read the files and find their images.

    Args:
        root: The data root.
        splits: JSON files of each split.
        args: The command line.
        report: Problems and notes, to which those of the files are added.

    Returns:
        Samples of each split, no image twice, the content of their files, and the sizes of images
        that are to be written.
    """
    planned: dict[Path, ImageSize] = {}
    samples: dict[str, list[Sample]] = {split: [] for split in splits}
    contents: dict[Path, LabelmeFile] = {}
    owners: dict[str, str] = {}
    for split, paths in splits.items():
        for path in paths:
            where = relative_name(path, root)
            try:
                content = read_labelme(path, where)
                image, planned_size = _image_of(path, content, where, args, root)
            except DataError as error:
                report.problems.add_error(error, where)
                continue
            owner = owners.setdefault(os.path.realpath(image), where)
            if owner != where:
                report.problems.add('images of several JSON files', where, f'as of {owner}')
                continue
            contents[path] = content
            if planned_size is not None:
                planned[image] = planned_size
            samples[split].append(Sample(image, path))
    _note_unlabelled(samples, root, report)
    return drop_shared(samples, root, report.problems), contents, planned
