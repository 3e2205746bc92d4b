"""Shared pieces of the converters: sizes, boxes, ids, counts, problems and files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_salience.datasets.conversion.coco_writer import (
    CocoObject,
    CocoSplit,
    ImageSize,
    box_object,
    count_table,
    read_image_size,
    shared_images,
    tidy,
    write_files,
    write_splits,
)
from mmdet_salience.datasets.conversion.data_problems import DataError, ProblemLog

SIZE = ImageSize(64, 48)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'tif'])
@pytest.mark.parametrize('orientation', [None, 1, 3, 5, 6, 8])
def test_size_is_what_opencv_loads(tmp_path: Path, suffix: str, orientation: int | None) -> None:
    path = tmp_path / f'image.{suffix}'
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path, exif=exif)
    is_turned = orientation in (5, 6, 8) and suffix != 'webp'
    expected = (20, 30) if is_turned else (30, 20)
    assert read_image_size(path) == expected
    loaded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert loaded.shape[1::-1] == expected


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n\x00\x00'])
def test_size_of_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'a.png').write_bytes(content)
    with pytest.raises(DataError, match=r'empty|not a readable image') as caught:
        read_image_size(tmp_path / 'a.png')
    assert caught.value.kind == 'unreadable images'


@pytest.mark.parametrize('value, expected', [(3.0, 3), (2.999999, 3), (0.126, 0.13), (-0.001, 0)])
def test_tidy(value: float, expected: float) -> None:
    assert tidy(value) == expected
    assert isinstance(tidy(value), type(expected))


def test_box_inside_stays() -> None:
    item = box_object(3, (10, 20, 30, 25), SIZE, 5)
    assert item == CocoObject(3, (10, 20, 20, 5), 100)


def test_box_of_fractions_is_rounded_once() -> None:
    item = box_object(1, (0.1, 0.2, 0.4, 63.9999999 / 4), SIZE, 0)
    assert item.bbox == (0.1, 0.2, 0.3, 15.8)
    assert item.area == 4.74


def test_noise_is_no_clipping() -> None:
    item = box_object(1, (-1e-4, 0, 64.0004, 48), SIZE, 0)
    assert (item.bbox, item.clipped) == ((0, 0, 64, 48), False)


def test_box_is_clipped_up_to_the_tolerance() -> None:
    item = box_object(1, (-5, -1, 69, 48), SIZE, 5)
    assert (item.bbox, item.area, item.clipped) == ((0, 0, 64, 48), 64 * 48, True)


@pytest.mark.parametrize(
    'corners, kind, text',
    [
        ((5, 5, 5, 9), 'boxes without area', 'box 5 5 5 9 has no area'),
        ((5, 9, 8, 5), 'boxes without area', 'has no area'),
        ((64, 0, 66, 9), 'boxes without area', 'no area inside the image'),
        ((-5.5, 0, 9, 9), 'boxes outside the image', 'leaves the 64x48 image by more than 5 pix'),
        ((0, 0, 9, 53.5), 'boxes outside the image', 'box 0 0 9 53.5 leaves'),
    ],
)
def test_wrong_box(corners: tuple[float, ...], kind: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        box_object(1, corners, SIZE, 5)
    assert caught.value.kind == kind


def _splits() -> dict[str, CocoSplit]:
    """A training split of three images, one of them empty, and a test split of one."""
    train, test = CocoSplit(['pit', 'long scratch']), CocoSplit(['pit', 'long scratch'])
    pit = CocoObject(1, (0, 0, 2, 3), 6)
    crowd = CocoObject(2, (1, 1, 4, 4), 16, is_crowd=True)
    shape = CocoObject(1, (0, 0, 2, 2), 3, [[0, 0, 2, 0, 0, 2]], clipped=True)
    train.add_image('a.png', SIZE, [pit, crowd])
    train.add_image('b.png', SIZE, [])
    train.add_image('sub/c.png', ImageSize(9, 8), [shape])
    train.counts['too small'] += 7
    test.add_image('d.png', SIZE, [pit])
    return {'train': train, 'test': test}


def test_split_content() -> None:
    content = _splits()['train'].coco
    assert content['categories'] == [{'id': 1, 'name': 'pit'}, {'id': 2, 'name': 'long scratch'}]
    assert content['images'][2] == {'id': 3, 'file_name': 'sub/c.png', 'width': 9, 'height': 8}
    assert [(a['id'], a['image_id'], a['iscrowd']) for a in content['annotations']] == [
        (1, 1, 0),
        (2, 1, 1),
        (3, 3, 0),
    ]
    assert content['annotations'][0] == {
        'id': 1,
        'image_id': 1,
        'category_id': 1,
        'bbox': [0, 0, 2, 3],
        'area': 6,
        'iscrowd': 0,
    }
    assert content['annotations'][2]['segmentation'] == [[0, 0, 2, 0, 0, 2]]


def test_count_table() -> None:
    rows = [line.split('  ') for line in count_table(_splits()).splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        [
            'split',
            'images',
            'empty',
            'pit',
            'long scratch',
            'boxes',
            'crowd',
            'clipped',
            'too small',
        ],
        ['train', '3', '1', '2', '1', '3', '1', '1', '7'],
        ['test', '1', '0', '1', '0', '1', '0', '0', '0'],
    ]


def test_count_table_without_crowds_and_empty_images() -> None:
    table = count_table({'test': _splits()['test']}, with_empty=False)
    assert ' '.join(table.split()) == 'split images pit long scratch boxes clipped test 1 1 0 1 0'


def test_shared_images() -> None:
    names = {'train': ['a', 'b', 'a'], 'val': ['c'], 'test': ['b', 'c']}
    assert shared_images(names) == {'b': ['train', 'test'], 'c': ['val', 'test']}


def test_problem_log() -> None:
    log = ProblemLog()
    assert (log.total, log.text()) == (0, '')
    for number in range(3):
        log.add('missing images', f'{number}.png')
    log.add_error(DataError('broken lines', 'five words'), 'a.txt:4')
    log.add_error(DataError('broken lines', 'no words', 'b.txt'), 'a.png')
    assert log.total == 5
    assert log.text(2).splitlines() == [
        'missing images: 3',
        '  0.png',
        '  1.png',
        '  ... and 1 more',
        'broken lines: 2',
        '  a.txt:4: five words',
        '  b.txt: no words',
    ]
    assert '  2.png' in log.text().splitlines()


def test_writes_splits(tmp_path: Path) -> None:
    files = write_splits(_splits(), tmp_path / 'new' / 'folder')
    assert files == [tmp_path / 'new/folder/train.json', tmp_path / 'new/folder/test.json']
    assert [len(json.loads(path.read_text())['images']) for path in files] == [3, 1]
    assert sorted(path.name for path in files[0].parent.iterdir()) == ['test.json', 'train.json']


def test_writes_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up with the second file leaves older files, and no others."""
    old = tmp_path / 'train.json'
    old.write_text('old')
    write_text = Path.write_text

    def write_until_full(path: Path, text: str, **options: str) -> int:
        """Write half of a file that is not the first."""
        if 'test' in path.name:
            write_text(path, text[: len(text) // 2], **options)
            raise OSError('no space left')
        return write_text(path, text, **options)

    monkeypatch.setattr(Path, 'write_text', write_until_full)
    with pytest.raises(OSError, match='no space left'):
        write_splits(_splits(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['train.json']
    assert old.read_text() == 'old'


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        write_files({tmp_path / 'file' / 'a.json': '{}'})
