"""Annotation files that CVAT, Label Studio and others export in COCO format, for the converter.

They name images by paths of another machine, put all splits into one file, or number from 0.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from _conversion import Report
from _split_lists import (
    IMAGE_SUFFIXES,
    SPLITS,
    Sample,
    SplitChoice,
    divide_files,
    drop_shared,
    list_files,
    relative_name,
)

from mmdet_salience.datasets.checks.annotation_file import load_annotation_content
from mmdet_salience.datasets.conversion.data_problems import DataError

USUAL_FILES = (
    'annotations/instances_default.json',  # CVAT
    'annotations/instances_{split}.json',  # CVAT with subsets
    'result.json',  # Label Studio
    '_annotations.coco.json',  # Roboflow
    '{split}/_annotations.coco.json',
)
OTHER_NAMES = {'val': ('valid', 'validation')}
UPLOAD_PREFIX = re.compile(r'[0-9a-f]{8}-(?=.)')  # of Label Studio


class Export(NamedTuple):
    """Content of an annotation file.

    ``images`` are its entries, ``objects`` those of each image id, ``classes`` the name of each
    category id, without parent categories that have no objects.
    """

    images: list[Mapping[str, Any]]
    objects: dict[Any, list[Mapping[str, Any]]]
    classes: dict[Any, str]


class ExportedImage(NamedTuple):
    """An image of an export: its entry, its objects, and the classes by category id."""

    entry: Mapping[str, Any]
    objects: list[Mapping[str, Any]]
    classes: Mapping[Any, str]


def _named_files(root: Path, name: str, splits: Sequence[str]) -> dict[str, Path]:
    """Files of splits whose names hold ``{split}``, by any usual name of the split."""
    found = {}
    for split in splits:
        words = (split, *OTHER_NAMES.get(split, ()))
        words = (*words, *(word.capitalize() for word in words))
        paths = [root / name.replace('{split}', word) for word in words]
        found |= {split: path for path in paths[::-1] if os.path.isfile(path)}  # noqa: B035
    return found


def find_exports(args: argparse.Namespace, choice: SplitChoice) -> dict[str, Path]:
    """Find the annotation files.

    Args:
        args: The command line.
        choice: What it says about splits.

    Returns:
        The file of each split, or one with an empty name for all.

    Raises:
        SystemExit: If there are none.
    """
    for name in [args.ann_file] if args.ann_file else USUAL_FILES:
        if '{split}' in name:
            found = _named_files(args.data_root, name, choice.splits or SPLITS)
            if found and len(found) >= len(choice.splits or ()):
                return found
        elif os.path.isfile(args.data_root / name):
            return {'': args.data_root / name}
    looked = args.ann_file or ', '.join(USUAL_FILES)
    raise SystemExit(
        f'error: {args.data_root} holds no {looked}; name the file by --ann-file, and the splits '
        'by --splits where its name holds {split}'
    )


def _entries(content: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    """A list of objects in an annotation file, or SystemExit."""
    items = content.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise SystemExit(f'error: {path} has no list of objects {key}; is it an export as COCO?')
    return items


def read_export(path: Path, report: Report) -> Export:
    """Read an annotation file.

    Args:
        path: The file.
        report: Problems and notes, to which those of the file are added.

    Returns:
        Its content.

    Raises:
        SystemExit: If it cannot be read, or is no COCO file.
    """
    try:
        content = load_annotation_content(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    images, categories, annotations = (
        _entries(content, key, path) for key in ('images', 'categories', 'annotations')
    )
    try:
        objects: dict[Any, list[Mapping[str, Any]]] = {image['id']: [] for image in images}
        classes = {category['id']: str(category['name']) for category in categories}
    except (KeyError, TypeError) as error:
        raise SystemExit(f'error: {path}: an image or category lacks {error}') from error
    if len(objects) < len(images) or len(classes) < len(categories):
        raise SystemExit(f'error: {path}: an id stands for two images or categories')
    for number, item in enumerate(annotations, 1):
        owner = item.get('image_id')
        if isinstance(owner, (int, str)) and owner in objects:
            objects[owner].append(item)
        else:
            report.problems.add('objects of unknown images', path.name, f'object {number}')
    used = {str(item.get('category_id')) for item in annotations}
    parents = {str(category.get('supercategory')) for category in categories}
    for number, name in list(classes.items()):
        if str(number) not in used and name in parents:
            report.notes.add('parent categories without objects, left out', name, path.name)
            del classes[number]
    return Export(images, objects, classes)


def _shared_folders(first: Sequence[str], second: Sequence[str]) -> int:
    """How many parts two paths share, from their ends, which come first."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(first))


class ImageNames:
    """Finds the images of an export below the data root, and nowhere else.

    Args:
        root: The data root.
        image_dir: Folder in it that names may start from.
    """

    def __init__(self, root: Path, image_dir: str) -> None:
        self._root = Path(os.path.abspath(root))  # "." and ".." are no part of other paths
        self._folders = (self._root / image_dir, self._root)
        self._by_name: dict[str, list[Path]] | None = None

    def _places(self, name: str, ann_file: Path) -> Iterator[Path]:
        """Files that a name stands for as it is."""
        for folder in (*self._folders, ann_file.parent):
            path = Path(os.path.abspath(folder / name))
            if path.is_relative_to(self._root) and os.path.isfile(path):
                yield path

    def _index(self) -> dict[str, list[Path]]:
        """Files below the folders by the last part of their names, each file once."""
        found: dict[tuple[str, str], Path] = {}
        # A link to the folder itself is followed, others below it are not.
        for folder in filter(os.path.isdir, self._folders):
            for path in list_files(folder, IMAGE_SUFFIXES):
                found.setdefault((path.name, os.path.realpath(path)), path)
        by_name: dict[str, list[Path]] = {}
        for path in found.values():
            by_name.setdefault(path.name, []).append(path)
        return by_name

    def _passed_over(self) -> list[str]:
        """Linked folders below the data root in which no image was looked for."""
        return [
            relative_name(path, self._root)
            for parent, names, _ in os.walk(self._root)
            for path in (Path(parent, name) for name in sorted(names))
            if os.path.islink(path) and path not in self._folders
        ]

    def _same_name(self, name: str) -> list[Path]:
        """Files with the last part of a name; of several, those that share most folders with it."""
        if self._by_name is None:
            self._by_name = self._index()
        parts = PurePosixPath(name).parts[::-1]
        shared = {
            path: _shared_folders(parts, path.parts[::-1])
            for path in self._by_name.get(parts[0] if parts else '', [])
        }
        return [path for path, count in shared.items() if count == max(shared.values())]

    def find(self, file_name: Any, ann_file: Path) -> tuple[Path, bool]:
        """Find an image.

        Args:
            file_name: Its name in the annotation file.
            ann_file: The file.

        Returns:
            The image, and whether it lies where the annotation file says.

        Raises:
            DataError: If there is none, or more than one.
        """
        if not isinstance(file_name, str) or not file_name:
            raise DataError('images without file_name', repr(file_name), ann_file.name)
        name = file_name.replace('\\', '/')
        exact = next(self._places(name, ann_file), None)
        if exact is not None:
            return exact, True
        last = PurePosixPath(unquote(name)).name
        for other in (name, unquote(name), UPLOAD_PREFIX.sub('', last, count=1)):
            found = self._same_name(other)
            if len(found) == 1:
                return found[0], False
            if found:
                names = ', '.join(relative_name(path, self._root) for path in found[:3])
                raise DataError('names of several images', names, file_name)
        detail = f'none of that name in {self._root}'
        links = self._passed_over()
        if links:
            detail += f'; linked folders are searched by --image-dir only: {", ".join(links[:3])}'
        raise DataError('missing images', detail, file_name)


def collect_images(
    exports: Mapping[str, tuple[Path, Export]],
    names: ImageNames,
    root: Path,
    choice: SplitChoice,
    report: Report,
) -> tuple[dict[str, list[Sample]], dict[Path, ExportedImage]]:
    """Find the images of all files.

    Args:
        exports: File and content of each split; an empty name stands for one that is divided.
        names: Finds images.
        root: The data root.
        choice: What the command line says about splits.
        report: Problems and notes, to which those of the images are added.

    Returns:
        Samples of each split, no image twice, and what the files say of each image.
    """
    samples: dict[str, list[Sample]] = {}
    images: dict[Path, ExportedImage] = {}
    for split, (ann_file, export) in exports.items():
        own: dict[Path, ExportedImage] = {}
        for entry in export.images:
            try:
                path, is_exact = names.find(entry.get('file_name'), ann_file)
            except DataError as error:
                report.problems.add_error(error, str(entry.get('file_name')))
                continue
            if path in own:
                where = relative_name(path, root)
                report.problems.add('images listed more than once', where, ann_file.name)
                continue
            if not is_exact:
                where = relative_name(path, root)
                report.notes.add('images found by their name', entry['file_name'], where)
            own[path] = ExportedImage(entry, export.objects[entry['id']], export.classes)
        parts = {split: list(own)} if split else divide_files(list(own), root, choice, 'images')
        images = own | images
        samples |= {part: [Sample(p, ann_file) for p in paths] for part, paths in parts.items()}
    return drop_shared(samples, root, report.problems), images
