"""Annotation files as columns: right ones, and every way in which one can be wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_samples import make_coco

from mmdet_salience.datasets.checks.annotation_table import (
    build_annotation_table,
    is_local,
    read_annotation_table,
)


def _write(path: Path, content: Any) -> Path:
    """Write JSON."""
    path.write_text(json.dumps(content))
    return path


def test_reads_all_columns(tmp_path: Path) -> None:
    content = make_coco(2, start=5)
    content['annotations'][1].update(iscrowd=1, ignore=True, area=12.5)
    path = _write(tmp_path / 'a.json', content)
    table = read_annotation_table(path)
    assert table.path == str(path)
    assert table.category_ids == (1, 2)
    assert table.category_names == ('crack', 'pore')
    assert table.file_names == ('5.png', '6.png')
    assert table.image_ids.tolist() == [5, 6] and table.image_ids.dtype == np.int64
    assert table.image_sizes.tolist() == [[64, 48], [64, 48]]
    assert table.annotation_ids.tolist() == [9, 10, 11, 12]
    assert table.annotation_image_ids.tolist() == [5, 5, 6, 6]
    assert table.annotation_category_ids.tolist() == [1, 2, 1, 2]
    assert table.image_rows.tolist() == [0, 0, 1, 1]
    assert table.category_rows.tolist() == [0, 1, 0, 1]
    assert table.boxes.tolist() == [[4, 6, 20, 10], [30, 20, 30, 25]] * 2
    assert table.areas.tolist() == [200, 12.5, 200, 750]
    assert table.is_crowd.tolist() == table.is_ignored.tolist() == [False, True, False, False]
    assert table.has_crowd_flag.all()


def test_lacking_values_become_nan_or_zero() -> None:
    content = make_coco(4)
    del content['images'][0]['width']
    content['images'][1]['height'] = None
    content['images'][2]['height'] = -3
    boxes = [None, [1, 2, 3], ['1', '2', '3', '4'], {'x': 1}, 7, [1, 2, 3, float('nan')]]
    for annotation, box in zip(content['annotations'], boxes, strict=False):
        annotation['bbox'] = box
    del content['annotations'][6]['bbox'], content['annotations'][6]['area']
    del content['annotations'][7]['iscrowd']
    content['annotations'][7]['area'] = 'wide'
    table = build_annotation_table(content, 'a.json')
    assert table.image_sizes.tolist() == [[0, 0]] * 3 + [[64, 48]]
    assert np.isnan(table.boxes).all(1).tolist() == [True] * 5 + [False, True, False]
    assert np.isnan(table.areas).tolist() == [False] * 6 + [True, True]
    assert table.has_crowd_flag.tolist() == [True] * 7 + [False]


def test_ids_may_be_texts() -> None:
    content = make_coco(2)
    for image in content['images']:
        image['id'] = f'image {image["id"]}'
    for annotation in content['annotations']:
        annotation['image_id'] = f'image {annotation["image_id"]}'
    table = build_annotation_table(content, 'a.json')
    assert table.image_ids.tolist() == ['image 1', 'image 2']
    assert table.image_rows.tolist() == [0, 0, 1, 1]


def test_numbers_and_texts_are_different_ids() -> None:
    content = make_coco(1)
    content['annotations'][0]['image_id'] = '1'
    content['annotations'][1]['category_id'] = 99
    table = build_annotation_table(content, 'a.json')
    assert table.image_rows.tolist() == [-1, 0]
    assert table.category_rows.tolist() == [0, -1]


def test_last_of_equal_image_ids_wins_as_in_mmdetection() -> None:
    content = make_coco(2)
    content['images'][1]['id'] = 1
    assert build_annotation_table(content, 'a').image_rows.tolist() == [1, 1, -1, -1]


@pytest.mark.parametrize('annotations', [None, []])
def test_test_set_without_annotations(annotations: list | None) -> None:
    content = make_coco(3)
    if annotations is None:
        del content['annotations']
    else:
        content['annotations'] = annotations
    table = build_annotation_table(content, 'a.json')
    assert table.boxes.shape == (0, 4) and table.areas.shape == (0,)
    assert table.image_rows.shape == (0,) and len(table.image_ids) == 3


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    _write(tmp_path / 'instances_train.json', {})
    with pytest.raises(FileNotFoundError, match=r'train\.json; .* instances_train\.json'):
        read_annotation_table(tmp_path / 'train.json')
    with pytest.raises(FileNotFoundError, match=r'is a folder; .* instances_train\.json'):
        read_annotation_table(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'nor its folder .*nowhere'):
        read_annotation_table(tmp_path / 'nowhere' / 'train.json')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'holds no \.json file'):
        read_annotation_table(tmp_path / 'empty' / 'train.json')


def test_many_neighbours_are_counted(tmp_path: Path) -> None:
    for index in range(12):
        _write(tmp_path / f'{index:02}.json', {})
    with pytest.raises(FileNotFoundError, match=r'00\.json, .*, 09\.json and 2 more$'):
        read_annotation_table(tmp_path / 'train.json')


@pytest.mark.parametrize('cut', [1, 20, 200, 700])
def test_truncated_json_tells_where(tmp_path: Path, cut: int) -> None:
    text = json.dumps(make_coco(2))
    path = tmp_path / 'train.json'
    path.write_text(text[:-cut])
    with pytest.raises(ValueError, match='cut off') as caught:
        read_annotation_table(path)
    assert str(path) in str(caught.value)
    assert f'of {len(text) - cut})' in str(caught.value)


@pytest.mark.parametrize(
    'raw, message',
    [
        (b'{"images": [1,], "categories": []}', r'Expecting value.* at line 1, column 15 .*\)$'),
        (b'[1, 2]', 'holds a list instead of a COCO object'),
        (b'"text"', 'holds a str'),
        (b'\x89PNG\r\n\x1a\n\xff', 'not a text file in UTF-8'),
        (b'', 'cut off'),
        (b'{}', "has no 'categories'.*its keys: none"),
        (b'{"data_list": [], "metainfo": {}}', 'its keys: data_list, metainfo'),
    ],
)
def test_other_files_are_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / 'train.json'
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=message) as caught:
        read_annotation_table(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    'place, value, message',
    [
        (('images',), None, "'images' of a.json is a NoneType, not a list"),
        (('images',), {}, "'images' of a.json is a dict"),
        (('images',), [], "'images' of a.json is empty"),
        (('categories',), [], "'categories' of a.json is empty"),
        (('annotations',), {'1': {}}, "'annotations' of a.json is a dict"),
        (('images', 1), 'x.png', "entry 1 of 'images' of a.json is not an object: 'x.png'"),
        (('images', 0), None, "entry 0 of 'images' of a.json is not an object: None"),
        (('images', 1, 'file_name'), None, "'file_name' of entry 1 .* is None, not a text"),
        (('categories', 1, 'name'), 3, "'name' of entry 1 of 'categories' of a.json is 3"),
        (('annotations', 2, 'image_id'), [4], r"'image_id' of entry 2 .* is \[4\], not an id"),
        (('images', 0, 'id'), 10**30, "'id' of entry 0 of 'images' of a.json is 1000.*, not an id"),
        (('annotations', 0, 'id'), float('nan'), "'id' of entry 0 .* is nan, not an id"),
        (('annotations', 3, 'category_id'), None, "'category_id' of entry 3 .* is None"),
    ],
)
def test_wrong_values_are_named(place: tuple, value: Any, message: str) -> None:
    content = make_coco(2)
    owner = content
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        build_annotation_table(content, 'a.json')


@pytest.mark.parametrize(
    'key, field',
    [
        ('images', 'id'),
        ('images', 'file_name'),
        ('categories', 'id'),
        ('categories', 'name'),
        ('annotations', 'id'),
        ('annotations', 'image_id'),
        ('annotations', 'category_id'),
    ],
)
def test_missing_keys_are_named(key: str, field: str) -> None:
    content = make_coco(2)
    del content[key][1][field]
    with pytest.raises(ValueError, match=f"entry 1 of '{key}' of a.json has no '{field}'"):
        build_annotation_table(content, 'a.json')


@pytest.mark.parametrize('key', ['images', 'categories'])
def test_missing_lists_are_named(key: str) -> None:
    content = make_coco(1)
    del content[key]
    with pytest.raises(ValueError, match=f"has no '{key}', so it is not in COCO format"):
        build_annotation_table(content, 'a.json')


def test_a_large_file_keeps_every_number() -> None:
    """The quick way for plain numbers gives what the slow one gives."""
    count = 200_000
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 500, (count, 4)).round(2)
    content = make_coco(1000)
    content['annotations'] = [
        dict(id=i, image_id=i % 1000 + 1, category_id=i % 2 + 1, bbox=box, area=1.5, iscrowd=0)
        for i, box in enumerate(boxes.tolist())
    ]
    quick = build_annotation_table(content, 'a.json')
    assert np.array_equal(quick.boxes, boxes)
    assert np.array_equal(quick.image_rows, np.arange(count) % 1000)
    content['annotations'][7]['bbox'] = None
    slow = build_annotation_table(content, 'a.json')
    assert np.flatnonzero(np.isnan(slow.boxes).any(1)).tolist() == [7]
    assert np.array_equal(np.delete(slow.boxes, 7, 0), np.delete(boxes, 7, 0))


def test_remote_paths_are_not_local() -> None:
    assert is_local('data/train.json') and is_local('a', {'backend': 'local'})
    assert not is_local('https://host/train.json')
    assert not is_local('data/train.json', {'backend': 'petrel'})
