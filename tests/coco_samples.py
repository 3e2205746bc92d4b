"""A small data set in COCO format without a fault, for tests that break it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48
BOXES = ((4, 6, 20, 10), (30, 20, 30, 25))
EXIF_ORIENTATION = 0x0112


def make_coco(num_images: int = 4, start: int = 1, folder: str = '') -> dict[str, Any]:
    """Make annotations: a crack and a pore at the same places of each image.

    Args:
        num_images: Number of images.
        start: Id of the first image; file names count along.
        folder: Folder within the file names, ending with a slash.

    Returns:
        Content of an annotation file; image k has the annotations 2k - 1 and 2k.
    """
    ids = range(start, start + num_images)
    return {
        'info': {'description': 'made for a test'},
        'licenses': [{'id': 1, 'name': 'none'}],
        'images': [
            dict(id=i, file_name=f'{folder}{i}.png', width=WIDTH, height=HEIGHT, camera='left')
            for i in ids
        ],
        'annotations': [
            dict(
                id=2 * i - 1 + k,
                image_id=i,
                category_id=k + 1,
                bbox=list(box),
                area=box[2] * box[3],
                iscrowd=0,
                score=0.5,
            )
            for i in ids
            for k, box in enumerate(BOXES)
        ],
        'categories': [dict(id=1, name='crack'), dict(id=2, name='pore')],
    }


def write_image(path: Path, size: Sequence[int] = (WIDTH, HEIGHT), orientation: int = 0) -> None:
    """Write a grey image.

    Args:
        path: The file; its folder is made if needed.
        size: Width and height in pixels.
        orientation: EXIF orientation, none if 0.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[EXIF_ORIENTATION] = orientation
    Image.fromarray(np.full(tuple(size)[::-1], 120, np.uint8)).save(path, exif=exif)


def write_coco(root: Path, content: dict[str, Any], name: str = 'train.json') -> Path:
    """Write an annotation file and its images.

    Args:
        root: Folder of both.
        content: Content of the annotation file.
        name: Name of the annotation file.

    Returns:
        The annotation file.
    """
    for image in content['images']:
        write_image(root / image['file_name'])
    path = root / name
    path.write_text(json.dumps(content))
    return path
