"""Repairs of the list of images: missing files, repeated entries, sizes."""

import copy
from pathlib import Path
from typing import Any

import pytest
from coco_samples import make_coco, write_coco, write_image

from mmdet_salience.datasets.checks.annotation_table import build_annotation_table
from mmdet_salience.datasets.checks.dataset_check import check_annotations
from mmdet_salience.datasets.checks.dataset_repair import RepairResult, repair_annotations
from mmdet_salience.datasets.checks.image_repair import BoxFit, object_to_size
from mmdet_salience.datasets.image_header import ImageHeader

Content = dict[str, Any]


def _kinds(content: Content, image_root: Path | None = None) -> set[str]:
    """Kinds of findings about a content."""
    table = build_annotation_table(content, 'copy.json')
    return {finding.kind for finding in check_annotations(table, image_root)}


def _repair(content: Content, *args: Any, **options: Any) -> RepairResult:
    """Repair, and check that the input stays as it is."""
    before = copy.deepcopy(content)
    result = repair_annotations(content, *args, **options)
    assert content == before
    return result


def test_drops_images_without_a_file(tmp_path: Path) -> None:
    content = make_coco(5)
    write_coco(tmp_path, content)
    (tmp_path / '2.png').unlink()
    (tmp_path / '4.png').write_text('not an image')
    result = _repair(content, tmp_path)
    assert result.actions == {
        'drop_missing_image': 1,
        'drop_unreadable_image': 1,
        'drop_with_image': 4,
    }
    assert [image['id'] for image in result.content['images']] == [1, 3, 5]
    assert {a['image_id'] for a in result.content['annotations']} == {1, 3, 5}
    assert _kinds(result.content, tmp_path) == set()


def test_a_wrong_folder_does_not_empty_the_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f'none of the 4 images is readable in {tmp_path}'):
        repair_annotations(make_coco(), tmp_path)


def test_merges_entries_of_a_file() -> None:
    content = make_coco(3)
    content['images'] += [
        dict(id=7, file_name='./1.png', width=64, height=48),
        dict(id=2, file_name='2.png'),
    ]
    del content['images'][0]['width']
    content['annotations'] += [
        dict(content['annotations'][0], id=20, image_id=7, bbox=[1, 1, 5, 40]),
    ]
    result = _repair(content)
    assert result.actions == {'merge_image': 2} and result.left == ()
    assert [image['id'] for image in result.content['images']] == [1, 2, 3]
    assert result.content['images'][0]['width'] == 64
    assert result.content['annotations'][-1]['image_id'] == 1
    assert _kinds(result.content) == set()


def test_leaves_ids_of_two_files_and_entries_of_two_sizes(tmp_path: Path) -> None:
    content = make_coco(4)
    write_coco(tmp_path, content)
    content['images'][1]['id'] = 1
    content['images'][2]['width'] = 32
    content['images'].append(dict(content['images'][2], id=9, width=64))
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 2]
    result = _repair(content)
    assert result.actions == {} and result.content == content
    assert len(result.left) == 2
    assert 'image id 1 stands for 1.png, 2.png' in result.left[0]
    assert '3.png is listed with different sizes' in result.left[1]
    (tmp_path / '2.png').unlink()
    kept = repair_annotations(content, tmp_path).content
    assert [image['file_name'] for image in kept['images'][:2]] == ['1.png', '2.png']


def test_sizes_from_files_where_boxes_fit(tmp_path: Path) -> None:
    content = make_coco(6)
    write_coco(tmp_path, content)
    images = content['images']
    del images[0]['width'], images[0]['height']  # filled
    images[1]['height'] = 200  # corrected
    write_image(tmp_path / '3.png', (63, 48))  # a slip, corrected
    write_image(tmp_path / '4.png', (32, 60))  # a box does not fit
    write_image(tmp_path / '5.png', (128, 96))  # resized later
    write_image(tmp_path / '6.jpg', orientation=6)
    images[5]['file_name'] = '6.jpg'
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 6]
    result = _repair(content, tmp_path)
    assert result.actions == {'fill_size': 1, 'correct_size': 3}
    sizes = [(image['width'], image['height']) for image in result.content['images']]
    assert sizes == [(64, 48), (64, 48), (63, 48), (64, 48), (64, 48), (48, 64)]
    assert len(result.left) == 2
    assert result.left[0].startswith('4.png has 64x48 in the annotations and 32x60 in the file')
    assert 'resized' in result.left[1]
    assert _kinds(result.content, tmp_path) == {'size_mismatch', 'no_objects'}


def test_boxes_decide_between_two_sizes(tmp_path: Path) -> None:
    """Declared at half its size, but a box lies where only the whole image reaches."""
    content = make_coco(1)
    write_coco(tmp_path, content)
    content['images'][0].update(width=32, height=24)
    result = _repair(content, tmp_path)
    assert result.actions == {'correct_size': 1} and result.left == ()
    assert result.content == make_coco(1)
    content = make_coco(1)
    content['annotations'][0]['bbox'] = [50, 6, 17, 10]  # merely careless
    write_image(tmp_path / '1.png', (128, 96))
    assert 'resized' in _repair(content, tmp_path).left[0]


def test_boxes_of_undecided_sizes_stay(tmp_path: Path) -> None:
    content = make_coco(1)
    write_coco(tmp_path, content)
    write_image(tmp_path / '1.png', (40, 40))
    content['annotations'][0]['bbox'] = [50, 6, 40, 10]
    result = _repair(content, tmp_path)
    assert result.actions == {} and len(result.left) == 1
    assert result.content == content


@pytest.mark.parametrize(
    'declared, size, is_turned, expected',
    [
        ((64, 48), (64, 50), False, None),
        ((64, 48), (66, 49), False, None),
        ((64, 48), (64, 96), False, None),
        ((0, 0), (64, 48), False, None),
        ((0, 0), (64, 48), True, 'EXIF'),
        ((64, 48), (48, 64), True, 'turned'),
        ((64, 48), (48, 64), False, 'turned'),
        ((64, 48), (128, 96), False, 'resized'),
        ((640, 427), (320, 214), False, 'resized'),
    ],
)
def test_objections_to_a_size(
    declared: tuple, size: tuple, is_turned: bool, expected: str | None
) -> None:
    header = ImageHeader(size, is_turned)
    objection = object_to_size(declared, header, BoxFit(True, True, True))
    assert (objection is None) if expected is None else (expected in objection)
    assert 'does not fit' in object_to_size(declared, header, BoxFit(True, True, False))
    assert object_to_size(declared, header, BoxFit(False, True, True)) is None
    assert object_to_size(declared, header, BoxFit(True, False, True)) is None
