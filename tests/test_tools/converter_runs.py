"""Runs of the converters in the tests' own process, and the files they read and write."""

import importlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

Box = tuple[str, float, float, float, float]
CONVERTERS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'


def load_converter(name: str) -> ModuleType:
    """A converter as a module."""
    if str(CONVERTERS) not in sys.path:
        sys.path.insert(0, str(CONVERTERS))
    return importlib.import_module(name)


def save_image(path: Path, size: tuple[int, int] = (64, 48), gray: int = 120) -> None:
    """Write a grey image of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], gray, np.uint8)).save(path)


def save_text(path: Path, text: str) -> None:
    """Write a text file, and its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read_split(root: Path, split: str) -> dict[str, Any]:
    """Content of an annotation file in its usual place."""
    return json.loads((root / f'annotations/{split}.json').read_text())


def boxes_of(content: dict[str, Any], file_name: str) -> list[tuple[str, list[float]]]:
    """Class names and boxes of an image."""
    (image,) = (image for image in content['images'] if image['file_name'] == file_name)
    names = {category['id']: category['name'] for category in content['categories']}
    return [
        (names[a['category_id']], a['bbox'])
        for a in content['annotations']
        if a['image_id'] == image['id']
    ]


def failure(main: Callable[[list[str]], None], root: Path, *options: str) -> str:
    """Message of a converter that must fail with status 1 and write nothing."""
    before = sorted(root.rglob('*'))
    with pytest.raises(SystemExit) as caught:
        main([str(root), *options])
    assert isinstance(caught.value.code, str), 'a message, which Python turns into status 1'
    assert sorted(root.rglob('*')) == before
    return caught.value.code


def refusal(
    main: Callable[[list[str]], None], root: Path, options: list[str], capsys: pytest.CaptureFixture
) -> str:
    """Message of a converter about a command line that does not make sense, status 2."""
    with pytest.raises(SystemExit) as caught:
        main([str(root), *options])
    assert caught.value.code == 2
    return capsys.readouterr().err


def table_row(printed: str, split: str) -> dict[str, str]:
    """Cells of a split in the printed table of counts, by the titles."""
    rows = [re.split(' {2,}', line.strip()) for line in printed.splitlines()]
    (titles,) = (row for row in rows if row[:2] == ['split', 'images'])
    (cells,) = (row for row in rows if row[:1] == [split])
    return dict(zip(titles, cells, strict=True))


def voc_xml(size: tuple[int, int], boxes: Sequence[Box], extra: str = '') -> str:
    """An annotation file: size (width, height), boxes (name, xmin, ymin, xmax, ymax)."""
    objects = ''.join(
        f'<object><name>{name}</name>{extra}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>'
        f'<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
        for name, x1, y1, x2, y2 in boxes
    )
    width, height = size
    return (
        f'<annotation><filename>other.jpg</filename><size><width>{width}</width>'
        f'<height>{height}</height><depth>3</depth></size>{objects}</annotation>'
    )


def write_cells(root: Path) -> Path:
    """Blood cells in VOC's layout: four images, one of them empty, in three splits."""
    size = (640, 480)
    images = {
        'BloodImage_0': [('WBC', 260, 177, 491, 376), ('RBC', 78, 336, 184, 435)],
        'BloodImage_1': [('RBC', 1, 1, 640, 480), ('Platelets', 5, 5, 5, 9)],
        'BloodImage_2': [],
        'BloodImage_3': [('RBC', 10.5, 10, 20, 20)],
    }
    for name, boxes in images.items():
        save_image(root / f'JPEGImages/{name}.jpg', size)
        save_text(root / f'Annotations/{name}.xml', voc_xml(size, boxes))
    lists = {
        'train': 'BloodImage_0\nBloodImage_2\n\n',
        'val': 'BloodImage_1',
        'test': 'BloodImage_3',
    }
    for split, text in lists.items():
        save_text(root / f'ImageSets/Main/{split}.txt', text)
    return root


def write_neu(root: Path) -> Path:
    """Ten grey images of steel in the folders of NEU-DET, without lists of splits."""
    for number in range(10):
        kind = ('crazing', 'inclusion', 'patches')[number % 3]
        save_image(root / f'IMAGES/{kind}_{number}.jpg', (200, 200))
        box = (kind, 2, 2, 193, 194 - number)
        save_text(root / f'ANNOTATIONS/{kind}_{number}.xml', voc_xml((200, 200), [box]))
    return root
