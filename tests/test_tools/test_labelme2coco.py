"""The converter of LabelMe's files, on small datasets that the tests write."""

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converter_runs import (
    boxes_of,
    failure,
    load_converter,
    read_split,
    refusal,
    save_image,
    save_text,
    table_row,
)
from PIL import Image
from pycocotools.coco import COCO

main = load_converter('labelme2coco').main
SIZE = (200, 100)


def shape(label: str, points: list, kind: str | None = 'polygon', **more: Any) -> dict[str, Any]:
    """A shape; ``kind`` None leaves it out, as old versions do."""
    kinds = {} if kind is None else dict(shape_type=kind)
    return dict(label=label, points=points, group_id=None, flags={}, **kinds) | more


def png(pixels: np.ndarray) -> str:
    """A PNG file in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'PNG')
    return base64.b64encode(buffer.getvalue()).decode()


def save_labels(path: Path, *shapes: dict, image: str = '', **more: Any) -> None:
    """Write a LabelMe file for an image of ``SIZE``."""
    image_path = image or f'{path.stem}.jpg'
    sides = dict(imageWidth=SIZE[0], imageHeight=SIZE[1])
    content = dict(version='5.4.1', flags={}, shapes=shapes, imagePath=image_path, imageData=None)
    save_text(path, json.dumps(content | sides | more))


def convert_one(root: Path, *shapes: dict) -> dict[str, Any]:
    """Annotation file of one image with these shapes."""
    save_image(root / 'a.jpg', SIZE)
    save_labels(root / 'a.json', *shapes)
    main([str(root)])
    return read_split(root, 'train')


def test_polygons_rectangles_and_circles(tmp_path: Path) -> None:
    content = convert_one(
        tmp_path,
        shape('pit', [[10, 10], [50, 10], [50, 30]]),
        shape('pit', [[10, 10], [30, 10], [30, 20], [10, 20]], None),
        shape('crack', [[90, 60], [60.5, 40]], 'rectangle'),
        shape('crack', [[60, 40], [90, 40], [90, 60], [60, 60]], 'rectangle'),
        shape('hole', [[100, 50], [120, 50]], 'circle'),
    )
    assert [c['name'] for c in content['categories']] == ['crack', 'hole', 'pit']
    assert boxes_of(content, 'a.jpg') == [
        ('pit', [10, 10, 40, 20]),
        ('pit', [10, 10, 20, 10]),
        ('crack', [60.5, 40, 29.5, 20]),
        ('crack', [60, 40, 30, 20]),
        ('hole', [80, 30, 40, 40]),
    ]
    areas = [annotation['area'] for annotation in content['annotations']]
    assert areas[:4] == [400, 200, 590, 600]
    assert areas[4] == pytest.approx(math.pi * 400, rel=2e-3)
    assert content['annotations'][0]['segmentation'] == [[10, 10, 50, 10, 50, 30]]
    assert 'segmentation' not in content['annotations'][2]
    assert len(COCO(str(tmp_path / 'annotations/train.json')).getAnnIds()) == 5


def test_a_circle_over_the_border_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    content = convert_one(tmp_path, shape('hole', [[5, 50], [25, 50]], 'circle'))
    assert boxes_of(content, 'a.jpg') == [('hole', [0, 30, 25, 40])]
    assert table_row(capsys.readouterr().out, 'train')['clipped'] == '1'


def test_a_mask_counts_its_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((11, 21), bool)
    pixels[2:5, 3:9] = True
    mask = shape('pit', [[30, 40], [50, 50]], 'mask', mask=png(pixels))
    content = convert_one(tmp_path, mask)
    assert boxes_of(content, 'a.jpg') == [('pit', [33, 42, 6, 3])]
    assert content['annotations'][0]['area'] == 18


def test_groups_are_one_object_of_each_label(tmp_path: Path) -> None:
    first = [[10, 10], [20, 10], [20, 20], [10, 20]]
    second = [[40, 30], [60, 30], [60, 40], [40, 40]]
    content = convert_one(
        tmp_path,
        shape('pit', first, group_id=1),
        shape('crack', first, group_id=1),
        shape('pit', second, group_id=1),
        shape('pit', first, group_id=2),
        shape('pit', second),
        shape('hole', first, group_id=0),
        shape('hole', second[::2], 'rectangle', group_id=0),
    )
    assert sorted(boxes_of(content, 'a.jpg')) == [
        ('crack', [10, 10, 10, 10]),
        ('hole', [10, 10, 50, 30]),
        ('pit', [10, 10, 10, 10]),
        ('pit', [10, 10, 50, 30]),
        ('pit', [40, 30, 20, 10]),
    ]
    joined = [a for a in content['annotations'] if a['bbox'] == [10, 10, 50, 30]]
    assert [a['area'] for a in joined] == [300, 300]
    assert [len(a.get('segmentation', ())) for a in joined] == [2, 0]


def test_labels_become_classes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    box = [[10, 10], [30, 30]]
    save_image(tmp_path / 'a.jpg', SIZE)
    labels = ('dent', 'pit', '__ignore__', 'scratch')
    save_labels(tmp_path / 'a.json', *(shape(label, box, 'rectangle') for label in labels))
    save_text(tmp_path / 'labels.txt', '__ignore__\n_background_\npit\nscratch\nstain\n')
    options = ['--rename', 'dent=pit', '--classes', str(tmp_path / 'labels.txt')]
    main([str(tmp_path), *options])
    content = read_split(tmp_path, 'train')
    assert [c['name'] for c in content['categories']] == ['pit', 'scratch', 'stain']
    assert [name for name, _ in boxes_of(content, 'a.jpg')] == ['pit', 'pit', 'scratch']
    assert table_row(capsys.readouterr().out, 'train')['ignored'] == '1'


@pytest.mark.parametrize(
    'image_path',
    ['a.jpg', '../data/a.jpg', 'C:\\photos\\a.jpg', '/home/else/a.jpg', 'renamed.png', ''],
)
def test_the_image_is_found_where_image_path_is_stale(tmp_path: Path, image_path: str) -> None:
    root = tmp_path / 'data'
    save_image(root / 'a.jpg', SIZE)
    content = dict(shapes=[shape('pit', [[1, 1], [9, 9]], 'rectangle')], imagePath=image_path)
    save_text(root / 'a.json', json.dumps(content))
    main([str(root)])
    assert boxes_of(read_split(root, 'train'), 'a.jpg') == [('pit', [1, 1, 8, 8])]


def test_folders_of_splits_and_of_images(tmp_path: Path) -> None:
    box = shape('pit', [[1, 1], [9, 9]], 'rectangle')
    for split, name in (('train', 'a'), ('val', 'b')):
        save_image(tmp_path / f'photos/{name}.jpg', SIZE)
        save_labels(tmp_path / f'labels/{split}/{name}.json', box)
    main([str(tmp_path), '--ann-dir', 'labels/{split}', '--image-dir', 'photos'])
    assert [i['file_name'] for i in read_split(tmp_path, 'val')['images']] == ['photos/b.jpg']


def test_a_ratio_a_single_file_and_a_second_run(tmp_path: Path) -> None:
    box = shape('pit', [[1, 1], [9, 9]], 'rectangle')
    for number in range(10):
        save_image(tmp_path / f'{number}.jpg', SIZE)
        save_labels(tmp_path / f'{number}.json', box)
    for _ in range(2):  # the second run meets the files of the first
        main([str(tmp_path), '--split-ratio', '7:3'])
    counts = [len(read_split(tmp_path, split)['images']) for split in ('train', 'val')]
    assert counts == [7, 3]
    main([str(tmp_path / '4.json'), '--splits', 'one'])
    assert [i['file_name'] for i in read_split(tmp_path, 'one')['images']] == ['4.jpg']


def test_images_inside_the_json_files(tmp_path: Path) -> None:
    pixels = png(np.full(SIZE[::-1], 90, np.uint8))
    box = shape('pit', [[1, 1], [9, 9]], 'rectangle')
    for folder in ('x', 'y'):  # names that meet do not overwrite each other
        save_labels(tmp_path / folder / 'a.json', box, imageData=pixels)
    message = failure(main, tmp_path)
    assert 'images that only the JSON file holds: 2' in message
    assert '--extract-images DIR' in message
    for _ in range(2):
        main([str(tmp_path), '--extract-images', 'images'])
    names = [image['file_name'] for image in read_split(tmp_path, 'train')['images']]
    assert names == ['images/x/a.png', 'images/y/a.png']
    assert (tmp_path / names[0]).read_bytes() == base64.b64decode(pixels)
    (tmp_path / names[1]).write_bytes(b'mine')
    with pytest.raises(SystemExit, match='in the way of --extract-images'):
        main([str(tmp_path), '--extract-images', 'images'])
    assert (tmp_path / names[1]).read_bytes() == b'mine'


def test_images_are_written_with_the_annotation_file_or_not_at_all(tmp_path: Path) -> None:
    pixels = png(np.full(SIZE[::-1], 90, np.uint8))
    box = shape('pit', [[1, 1], [9, 9]], 'rectangle')
    save_labels(tmp_path / 'good.json', box, imageData=pixels)
    save_labels(tmp_path / 'turned.json', box, imageData=pixels, imageWidth=1)
    save_text(tmp_path / 'broken.json', '{')
    message = failure(main, tmp_path, '--extract-images', 'images')
    assert 'nothing written' in message and 'turned.json: 1x100, the image is 200x100' in message
    main([str(tmp_path), '--extract-images', 'images', '--skip-problems'])
    assert [path.name for path in (tmp_path / 'images').iterdir()] == ['good.png']
    before = (tmp_path / 'images/good.png').stat()
    main([str(tmp_path), '--extract-images', 'images', '--skip-problems'])
    after = (tmp_path / 'images/good.png').stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_json_files_in_the_output_folder_are_read(tmp_path: Path) -> None:
    box = shape('pit', [[1, 1], [9, 9]], 'rectangle')
    for name in ('a', 'b'):
        save_image(tmp_path / f'images/{name}.jpg', SIZE)
        save_labels(tmp_path / f'annotations/{name}.json', box)
    for _ in range(2):  # the second run meets the file of the first
        main([str(tmp_path), '--ann-dir', 'annotations', '--image-dir', 'images'])
    assert len(read_split(tmp_path, 'train')['images']) == 2
    (tmp_path / 'annotations/train.json').unlink()
    save_labels(tmp_path / 'annotations/train.json', box, image='a.jpg')
    options = ['--ann-dir', 'annotations', '--image-dir', 'images', '--skip-problems']
    (tmp_path / 'annotations/a.json').unlink()
    assert 'train.json is read and would be replaced' in failure(main, tmp_path, *options)


def test_several_splits_need_a_ratio(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ('a', 'b'):
        save_image(tmp_path / f'{name}.jpg', SIZE)
        save_labels(tmp_path / f'{name}.json', shape('pit', [[1, 1], [9, 9]], 'rectangle'))
    splits = ['--splits', 'train', 'val']
    assert 'divide them by --split-ratio' in failure(main, tmp_path, *splits)
    main([str(tmp_path), *splits, '--split-ratio', '1:1'])
    printed = capsys.readouterr().out
    assert [table_row(printed, split)['images'] for split in ('train', 'val')] == ['1', '1']


BROKEN = {
    'no json': ('{', 'broken JSON files: 1'),
    'a list': ('[]', 'JSON files that are not of LabelMe: 1'),
    'COCO': ('{"images": []}', 'JSON files that are not of LabelMe: 1'),
    'a shape is text': ('{"shapes": ["pit"], "imagePath": "a.jpg"}', 'a shape is no object'),
    'deep': ('[' * 100000, 'broken JSON files: 1'),
}


@pytest.mark.parametrize('text, message', BROKEN.values(), ids=list(BROKEN))
def test_broken_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    save_image(tmp_path / 'a.jpg', SIZE)
    save_labels(tmp_path / 'good.json', image='a.jpg')
    save_text(tmp_path / 'broken.json', text)
    found = failure(main, tmp_path)
    assert message in found
    assert '  broken.json' in found


NOT_OBJECTS = {
    'line': (shape('pit', [[1, 1], [9, 9]], 'line'), 'shapes without area: 1'),
    'point': (shape('pit', [[1, 1]], 'point'), "point of 'pit'"),
    'two corners': (shape('pit', [[1, 1], [9, 9]]), 'broken points: 1'),
    'no points': (dict(label='pit', shape_type='circle'), 'broken points: 1'),
    'NaN': (shape('pit', [[1, 1], [math.nan, 9]], 'rectangle'), 'broken points: 1'),
    'text': (shape('pit', [['x', 1], [9, 9]], 'rectangle'), 'broken points: 1'),
    'flat': (shape('pit', [[1, 1], [9, 9], [5, 5]]), 'polygons without area: 1'),
    'outside': (shape('pit', [[1, 1], [900, 9]], 'rectangle'), 'boxes outside the image: 1'),
    'no mask': (shape('pit', [[1, 1], [9, 9]], 'mask', mask='AAAA'), 'broken masks: 1'),
    'empty circle': (shape('pit', [[9, 9], [9, 9]], 'circle'), 'boxes without area: 1'),
    'no label': (shape('', [[1, 1], [9, 9]], 'rectangle'), 'unknown classes'),
    'label 3': (shape(3, [[1, 1], [9, 9]], 'rectangle'), 'unknown classes'),
}


@pytest.mark.parametrize('item, message', NOT_OBJECTS.values(), ids=list(NOT_OBJECTS))
def test_shapes_that_are_no_objects(tmp_path: Path, item: dict, message: str) -> None:
    save_image(tmp_path / 'a.jpg', SIZE)
    save_labels(tmp_path / 'a.json', shape('pit', [[1, 1], [9, 9]], 'rectangle'), item)
    found = failure(main, tmp_path)
    assert message in found
    assert 'a.json: shape 2' in found
    main([str(tmp_path), '--skip-problems'])
    assert boxes_of(read_split(tmp_path, 'train'), 'a.jpg') == [('pit', [1, 1, 8, 8])]


def test_images_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    box = shape('pit', [[1, 1], [9, 9]], 'rectangle')
    for name in ('a', 'b', 'unlabelled'):
        save_image(tmp_path / f'{name}.jpg', SIZE)
    save_labels(tmp_path / 'a.json', box)
    save_labels(tmp_path / 'again.json', box, image='a.jpg')
    save_labels(tmp_path / 'b.json', box, imageWidth=100, imageHeight=200)
    save_labels(tmp_path / 'gone.json', box)
    found = failure(main, tmp_path)
    assert 'images of several JSON files: 1\n  again.json: as of a.json' in found
    assert 'size in the JSON file differs from the image: 1\n  b.json: 100x200' in found
    assert "missing images: 1\n  gone.json: imagePath is 'gone.jpg'" in found
    main([str(tmp_path), '--skip-problems'])
    printed = capsys.readouterr().out
    assert 'images without a JSON file, left out: 1\n  unlabelled.jpg' in printed
    assert [i['file_name'] for i in read_split(tmp_path, 'train')['images']] == ['a.jpg']


def test_command_lines_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert 'LABEL=CLASS' in refusal(main, tmp_path, ['--rename', 'pit'], capsys)
    ratio = ['--ann-dir', '{split}', '--split-ratio', '1:1']
    assert '--split-ratio does not go with' in refusal(main, tmp_path, ratio, capsys)
    assert 'there is no folder' in refusal(main, tmp_path / 'none.json', [], capsys)
    with pytest.raises(SystemExit, match='no JSON file in'):
        main([str(tmp_path)])
