"""Damaged annotation files of all kinds end in errors that name the file, never in others.

A case is one file with one to four faults, which hypothesis draws; see ``conftest.py``.
"""

import copy
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from coco_samples import make_coco, write_coco
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset
from PIL import Image

from mmdet_salience.datasets.checks.annotation_table import read_annotation_table
from mmdet_salience.datasets.checks.dataset_check import (
    check_annotations,
    describe_findings,
    object_table,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test_tools'))

from converter_runs import load_converter, save_image, save_text, write_cells

Place = tuple[int | str, ...]

NUMBERS = [-1, 0, 3, 1.5, 1e308, float('nan'), float('inf'), 10**400, 2**63]
TEXTS = ['', 'x', '1', '\ud800', 'a\0b', '../1.png', 'x' * 5000]
LISTS = [[], {}, [[]], [1, 2, 3], [1, 2, 3, 10**400], ['a'] * 4, {'id': 1}, [None] * 4]
VALUES = [None, True, *NUMBERS, *TEXTS, *LISTS]
DIGITS = [b'nan', b'inf', b'-1', b'0', b'9' * 5000, b'1e999', '\u0663'.encode()]
MARKS = [b'\0', b'\xff\xfe', b'\xef\xbb\xbf', b'\n', b'\xed\xa0\x80', b'\xe2\x80\xa8']
PIECES = [*DIGITS, *MARKS, b'../', b'"', b'{', b'[' * 9, b',']
XML_PIECES = [
    b'<object>',
    b'</object>',
    b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>',
    b'&d;',
    b'<?xml version="1.0" encoding="nonsense"?>',
    b'<?xml version="1.0" encoding="idna"?>',
    b'<a>' * 999,
    b'<bndbox/>',
    b'<name/>',
    b'<![CDATA[',
]
YAML_PIECES = [
    b'names: 7\n',
    b'names: {.inf: a}\n',
    b'names: [[1], [1]]\n',
    b'nc: [1]\n',
    b'train: 5\n',
    b'train: 2001-13-45\n',
    b'path: 3\n',
    b'- ',
    b'&a ',
    b'*a',
    b'<<: *a\n',
    b'!!python/object:os.system ',
    b'!!float x',
    b'[' * 3000,
]


def places(node: Any, place: Place = ()) -> Iterator[Place]:
    """Places of all values within a content."""
    children: Any = ()
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list):
        children = enumerate(node)
    for key, child in children:
        yield (*place, key)
        yield from places(child, (*place, key))


def change_values(content: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """A copy with values replaced, removed or doubled."""
    content = copy.deepcopy(content)
    for _ in range(draw.choice([1, 1, 2, 4])):
        all_places = list(places(content))
        if not all_places:
            break
        *path, key = draw.choice(all_places)
        parent: Any = content
        for step in path:
            parent = parent[step]
        way = draw.choice(['set', 'set', 'remove', 'double'])
        if way == 'remove':
            del parent[key]
        elif way == 'double' and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            parent[key] = copy.deepcopy(draw.choice(VALUES))
    return content


def change_bytes(content: bytes, draw: random.Random, pieces: Sequence[bytes]) -> bytes:
    """A copy that is cut, or has bytes flipped, removed, zeroed or put in."""
    result = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(len(result) + 1)
        way = draw.choice(['cut', 'flip', 'remove', 'zeros', 'put', 'put', 'noise'])
        if way == 'cut':
            del result[place:]
        elif way == 'flip' and place < len(result):
            result[place] ^= 1 << draw.randrange(8)
        elif way == 'remove':
            del result[place : place + draw.choice([1, 2, 30])]
        elif way == 'zeros':
            result[place : place + 20] = bytes(len(result[place : place + 20]))
        elif way == 'put':
            result[place:place] = draw.choice(pieces)
        elif way == 'noise':
            result[place:place] = bytes(draw.choices(range(256), k=draw.choice([1, 3, 50])))
    return bytes(result)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three images with annotations."""
    folder = tmp_path_factory.mktemp('damaged')
    write_coco(folder, make_coco(3), 'good.json')
    return folder


def check(path: Path) -> bool:
    """Check a file as before a training; whether it may be trained on.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    table = read_annotation_table(path)
    findings = check_annotations(table, path.parent, evaluated=True)
    text = f'{describe_findings(findings, None)}\n{object_table(table)}'
    assert text.encode(), 'what was found can be printed'
    return not any(finding.is_error for finding in findings)


def load_all(path: Path) -> None:
    """Load a file as a training does; every box is finite."""
    classes = read_annotation_table(path).category_names
    settings = dict(metainfo=dict(classes=classes), filter_cfg=dict(filter_empty_gt=False))
    dataset = CocoDataset(ann_file=str(path), data_prefix=dict(img=str(path.parent)), **settings)
    for index in range(len(dataset)):
        instances = dataset.get_data_info(index)['instances']
        boxes = np.array([item['bbox'] for item in instances], np.float32)
        assert np.isfinite(boxes).all()


def judge_json(path: Path) -> str:
    """What becomes of a file: ``'refused'``, ``'faulty'`` or ``'loaded'``."""
    try:
        is_fine = check(path)
    except (FileNotFoundError, ValueError) as error:
        assert str(path) in str(error) and not isinstance(error, UnicodeError)
        return 'refused'
    if not is_fine:
        return 'faulty'
    load_all(path)
    return 'loaded'


@pytest.mark.parametrize('way', ['values', 'bytes'])
def test_json(root: Path, way: str) -> None:
    """No error but those that name the file, and each outcome is met."""
    good = (root / 'good.json').read_bytes()
    path, outcomes = root / 'damaged.json', Counter[str]()

    @given(draw=st.randoms(use_true_random=False))
    def judge(draw: random.Random) -> None:
        if way == 'values':
            damaged = json.dumps(change_values(json.loads(good), draw)).encode()
        else:
            damaged = change_bytes(good, draw, PIECES)
        path.write_bytes(damaged)
        outcomes[judge_json(path)] += 1

    judge()
    assert outcomes.keys() == {'refused', 'faulty', 'loaded'}


@pytest.mark.parametrize(
    'change, outcome',
    [
        (lambda content: None, 'loaded'),
        (lambda content: content['annotations'].clear(), 'loaded'),
        (lambda content: content['annotations'][0].update(bbox=None), 'faulty'),
        (lambda content: content['annotations'][0].update(bbox=[1, 2, 3, 10**400]), 'faulty'),
        (lambda content: content['images'][0].update(width=10**400), 'faulty'),
        (lambda content: content['images'][0].update(file_name='x' * 5000), 'faulty'),
        (lambda content: content['images'][0].update(file_name='\ud800'), 'refused'),
        (lambda content: content['images'].append('\ud800'), 'refused'),
        (lambda content: content['categories'][0].update(id='\ud800'), 'refused'),
        (lambda content: content.pop('images') and content.update({'\ud800': 1}), 'refused'),
    ],
)
def test_json_of_known_outcome(root: Path, change: Callable, outcome: str) -> None:
    content = json.loads((root / 'good.json').read_text())
    change(content)
    path = root / 'known.json'
    path.write_text(json.dumps(content))
    assert judge_json(path) == outcome


@pytest.mark.parametrize('content', [b'{"images":' + b'[' * 200000, b'{"a": ' + b'9' * 5000 + b'}'])
def test_json_that_the_parser_refuses_in_its_own_way(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'a.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.json is no annotation file: '):
        read_annotation_table(path)


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.json'
    path.write_text('{}')

    def refuse(*_: Any, **__: Any) -> None:
        """Refuse as the system does."""
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'read_text', refuse)
    with pytest.raises(ValueError, match=r'a\.json cannot be read: Permission denied'):
        read_annotation_table(path)


def write_labels(root: Path) -> None:
    """Images with YOLO labels."""
    for name in ('train/north', 'train/south', 'val/west'):
        save_image(root / f'images/{name}.jpg', (200, 100))
    save_text(root / 'labels/train/north.txt', '1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.1 0.2\n')
    save_text(root / 'labels/val/west.txt', '0 0.1 0.1 0.5 0.1 0.5 0.9\n')
    save_text(root / 'data.yaml', 'train: images/train\nval: images/val\nnames: [pit, crack]\n')


def write_masks(root: Path) -> None:
    """Images with masks of all formats."""
    mask = np.zeros((48, 64), np.uint8)
    mask[5:20, 5:30], mask[30:40, 40:50] = 1, 2
    for number, suffix in enumerate(('png', 'tif', 'bmp', 'gif', 'jpg', 'png')):
        save_image(root / f'images/plate{number}.png')
        (root / 'masks').mkdir(exist_ok=True)
        pixels = mask.astype(np.uint16) if number == 5 else mask
        Image.fromarray(pixels).save(root / f'masks/plate{number}.{suffix}')


def write_boards(root: Path) -> None:
    """Images with text files as DeepPCB has them."""
    boards = {'board1': '10 20 30 25 1\n1 2 5 6 6\n', 'board2': '', 'board3': '0 0 64 48 3'}
    for name, text in boards.items():
        save_image(root / f'g/b/{name}_test.jpg')
        save_text(root / f'g/b_not/{name}.txt', text)
    first, second, third = (f'g/b/{name}.jpg g/b_not/{name}.txt\n' for name in boards)
    save_text(root / 'trainval.txt', first + second)
    save_text(root / 'test.txt', third)


MASK_OPTIONS = ['--image-dir=images', '--mask-dir=masks', '--split-ratio=1:1:1']
CONVERTERS: dict[str, tuple[Callable, list[str], Sequence[bytes], list[str]]] = {
    'voc2coco': (
        write_cells,
        ['Annotations/*.xml', 'ImageSets/Main/*.txt', 'JPEGImages/*'],
        [*PIECES, *XML_PIECES],
        [],
    ),
    'yolo2coco': (
        write_labels,
        ['data.yaml', 'labels/*/*.txt', 'images/*/*'],
        [*PIECES, *YAML_PIECES],
        [],
    ),
    'masks2coco': (
        write_masks,
        ['masks/*', 'images/*'],
        PIECES,
        [*MASK_OPTIONS, '--classes', 'a', 'b'],
    ),
    'deeppcb2coco': (write_boards, ['*.txt', 'g/b_not/*', 'g/b/*'], PIECES, []),
}


STEMS = ('BloodImage_', 'north', 'south', 'west', 'plate', 'board')


class Source(NamedTuple):
    """Data of a converter: its files by kind, what to put into them, options."""

    root: Path
    main: Callable[[list[str]], None]
    files: list[list[Path]]
    pieces: Sequence[bytes]
    options: list[str]


def run(source: Source) -> str | None:
    """Run a converter; its message, None if it has written its files."""
    out = source.root / 'out'
    try:
        source.main([str(source.root), f'--out-dir={out}', *source.options])
    except SystemExit as stop:
        assert isinstance(stop.code, str), 'a message, which Python turns into status 1'
        assert not out.exists(), 'nothing is written'
        assert stop.code.encode(), 'the message can be printed'
        return stop.code
    for path in out.iterdir():
        read_annotation_table(path)
    shutil.rmtree(out)
    return None


def names_file(message: str, path: Path, root: Path) -> bool:
    """Whether a message names a damaged file, or one that a damaged list of files leads to."""
    leads_to_others = path.suffix == '.yaml' or 'ImageSets' in path.parts or path.parent == root
    files = [file for file in root.rglob('*.*') if leads_to_others or file == path]
    return any(name in message for file in files for name in words_for(file))


def words_for(path: Path) -> tuple[str, ...]:
    """What a message may call a file: its name, an image's stem, or the split that a list is of.

    Other stems are everyday words, which would be found in any message.
    """
    stem = path.stem.removesuffix('_test')
    if 'ImageSets' in path.parts:
        return path.name, f'in {stem}, '
    return (path.name, stem) if stem.startswith(STEMS) else (path.name,)


@pytest.fixture(scope='module', params=CONVERTERS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Data of each converter."""
    write, patterns, pieces, options = CONVERTERS[request.param]
    root = tmp_path_factory.mktemp(request.param)
    write(root)
    files = [sorted(root.glob(pattern)) for pattern in patterns]
    return Source(root, load_converter(request.param).main, files, pieces, options)


@given(draw=st.randoms(use_true_random=False))
def test_converter(source: Source, draw: random.Random) -> None:
    path = draw.choice(draw.choice(source.files))
    good = path.read_bytes()
    path.write_bytes(change_bytes(good, draw, source.pieces))
    try:
        message = run(source)
    finally:
        path.write_bytes(good)
    assert message is None or names_file(message, path, source.root), message


def test_converter_takes_what_is_not_damaged(source: Source) -> None:
    assert run(source) is None


def test_yaml_of_errors_of_its_own(tmp_path: Path) -> None:
    write_labels(tmp_path)
    main = load_converter('yolo2coco').main
    good = (tmp_path / 'data.yaml').read_text()
    for line in ('day: 2001-13-45', 'names: {.inf: a}', 'deep: ' + '[' * 5000):
        (tmp_path / 'data.yaml').write_text(good + line)
        with pytest.raises(SystemExit, match=r'error: .*data\.yaml'):
            main([str(tmp_path)])


def test_list_in_another_encoding(tmp_path: Path) -> None:
    write_boards(tmp_path)
    (tmp_path / 'test.txt').write_bytes(b'g/b/\xff.jpg g/b_not/board3.txt\n')
    with pytest.raises(SystemExit, match=r'_test\.jpg: missing, but listed in test\.txt'):
        load_converter('deeppcb2coco').main([str(tmp_path)])
