"""Repairs: what is done, what is left, and that the copy is clean afterwards."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_samples import make_coco, write_coco

from mmdet_salience.datasets.checks.annotation_table import build_annotation_table
from mmdet_salience.datasets.checks.dataset_check import check_annotations, check_pair
from mmdet_salience.datasets.checks.dataset_repair import ACTIONS, RepairResult, repair_annotations

Content = dict[str, Any]


def _kinds(content: Content, image_root: Path | None = None) -> set[str]:
    """Kinds of findings about a content."""
    table = build_annotation_table(content, 'copy.json')
    return {finding.kind for finding in check_annotations(table, image_root)}


def _repair(content: Content, *args: Any, **options: Any) -> RepairResult:
    """Repair, and check that the input stays as it is and every action has a name."""
    before = copy.deepcopy(content)
    result = repair_annotations(content, *args, **options)
    assert content == before
    assert result.actions.keys() <= ACTIONS.keys() and all(result.actions.values())
    return result


def _set(row: int, **values: Any) -> Callable[[Content], Any]:
    """A change that sets values of an annotation."""
    return lambda content: content['annotations'][row].update(values)


def test_clean_content_stays_equal(tmp_path: Path) -> None:
    content = make_coco()
    write_coco(tmp_path, content)
    assert _repair(content, tmp_path, content['categories']) == (content, {}, ())


@pytest.mark.parametrize(
    'change, actions',
    [
        (_set(2, bbox=[4, 6, 0, 10]), {'drop_degenerate_box': 1}),
        (_set(2, bbox=None), {'drop_degenerate_box': 1}),
        (_set(2, bbox=[1, 2, float('nan'), 4]), {'drop_degenerate_box': 1}),
        (_set(2, bbox=[64, 6, 20, 10]), {'drop_outside_box': 1}),
        (_set(2, bbox=[63.5, 6, 20, 10]), {'drop_outside_box': 1}),
        (_set(2, image_id=99), {'drop_unknown_image': 1}),
        (_set(2, category_id=99), {'drop_unknown_category': 1}),
        (_set(2, category_id=99, image_id=99), {'drop_unknown_image': 1}),
    ],
)
def test_drops_one_annotation(change: Callable, actions: dict[str, int]) -> None:
    content = make_coco()
    change(content)
    result = _repair(content)
    assert result.actions == actions and result.left == ()
    expected = make_coco()
    del expected['annotations'][2]
    assert result.content == expected
    assert _kinds(result.content) == set()


def test_clips_boxes_and_their_areas() -> None:
    content = make_coco()
    rows = content['annotations']
    rows[0].update(bbox=[-10, 6, 20, 10])  # area 200, that of the box
    rows[2].update(bbox=[50.5, 40, 20, 10], area=123)  # another area
    rows[4].update(bbox=[50, 40, 20, 10], segmentation=[[50, 40, 60, 40, 60, 48]])
    rows[6].update(bbox=[-0.5, 6, 20, 10])  # within the tolerance
    rows[7].update(bbox=[-9, -9, 1, 1], ignore=True)
    result = _repair(content)
    assert result.actions == {'clip_box': 3}
    new = result.content['annotations']
    assert (new[0]['bbox'], new[0]['area']) == ([0, 6, 10, 10], 100)
    assert (new[2]['bbox'], new[2]['area']) == ([50.5, 40, 13.5, 8], 123)
    assert (new[4]['bbox'], new[4]['area']) == ([50, 40, 14, 8], 200)
    assert new[4]['segmentation'] == [[50, 40, 60, 40, 60, 48]]
    assert new[6:] == rows[6:]
    assert _kinds(result.content) == set()


def test_fills_areas_and_crowd_flags() -> None:
    content = make_coco()
    del content['annotations'][0]['area'], content['annotations'][1]['iscrowd']
    content['annotations'][1]['area'] = 0
    content['annotations'][2]['area'] = None
    result = _repair(content)
    assert result.actions == {'fill_area': 3, 'fill_crowd_flag': 1}
    assert result.content == make_coco()


def test_numbers_annotations_anew_only_where_needed() -> None:
    content = make_coco()
    for row, new_id in ((0, 0), (3, 2), (4, 'five')):
        content['annotations'][row]['id'] = new_id
    content['annotations'][1]['id'] = 2
    result = _repair(content)
    assert result.actions == {'renumber_annotation': 3}
    ids = [annotation['id'] for annotation in result.content['annotations']]
    assert ids == [9, 2, 3, 10, 11, 6, 7, 8]
    assert _kinds(result.content) == set()


def test_further_keys_survive(tmp_path: Path) -> None:
    content = make_coco()
    content['annotations'][0].update(bbox=[-10, 6, 20, 10], segmentation=[[1, 2, 3]], note='x')
    result = _repair(content)
    assert result.content['info'] == content['info']
    assert result.content['licenses'] == content['licenses']
    assert result.content['images'][0]['camera'] == 'left'
    assert result.content['annotations'][0]['note'] == 'x'
    assert result.content['annotations'][0]['score'] == 0.5
    del content['annotations']
    assert 'annotations' not in _repair(content).content


def test_merges_categories_of_the_same_name() -> None:
    content = make_coco()
    content['categories'].append(dict(id=5, name='crack'))
    content['annotations'][0]['category_id'] = 5
    result = _repair(content)
    assert result.actions == {'merge_category': 1}
    assert result.content == make_coco()


def test_leaves_a_category_id_with_two_names() -> None:
    content = make_coco()
    content['categories'].append(dict(id=1, name='stain'))
    result = _repair(content, categories=make_coco()['categories'])
    assert result.actions == {} and result.content == content
    assert 'category id 1 stands for crack and stain' in result.left[0]


def test_takes_categories_of_the_reference() -> None:
    """Names decide; ids, order and further fields become those of the reference."""
    reference = [
        dict(id=10, name='pore', extra=1),
        dict(id=1, name='hole'),
        dict(id=2, name='crack'),
    ]
    val = make_coco(start=9)
    val['categories'].append(dict(id=3, name='unused'))
    val['annotations'][3]['category_id'] = 10  # unknown; must not turn into a pore
    result = _repair(val, categories=reference)
    assert result.actions == {'drop_unknown_category': 1, 'match_category': 3}
    assert result.content['categories'] == reference
    ids = [a['category_id'] for a in result.content['annotations']]
    assert ids == [2, 10, 2, 2, 10, 2, 10]
    train = dict(make_coco(), categories=reference)
    tables = [build_annotation_table(c, 'a.json') for c in (train, result.content)]
    assert check_pair(*tables) == ()


def test_keeps_categories_with_objects_that_the_reference_lacks() -> None:
    content = make_coco()
    result = _repair(content, categories=[dict(id=1, name='crack')])
    assert result.content == content and result.actions == {}
    assert 'no category pore' in result.left[0]


def test_corners_are_left_alone() -> None:
    content = make_coco(6)
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]
    result = _repair(content)
    assert result.content == content and result.actions == {}
    assert 'two corners' in result.left[0]


def test_malformed_content_is_refused() -> None:
    with pytest.raises(ValueError, match="has no 'images'"):
        repair_annotations({'categories': [dict(id=1, name='a')]})


def test_everything_at_once_is_clean_afterwards(tmp_path: Path) -> None:
    content = make_coco(30)
    write_coco(tmp_path, content)
    (tmp_path / '7.png').unlink()
    images, annotations = content['images'], content['annotations']
    del images[0]['width']
    images.append(dict(images[1], id=99))
    changes = [
        dict(bbox=[0, 0, 0, 0]),
        dict(bbox=[50, 40, 40, 40]),
        dict(bbox=[100, 100, 5, 5]),
        dict(image_id=1000),
        dict(category_id=1000),
        dict(id=1),
        dict(area=None),
    ]
    for row, change in zip(range(20, 34, 2), changes, strict=True):
        annotations[row].update(change)
    first = _repair(content, tmp_path)
    assert first.left == () and sum(first.actions.values()) == 12
    assert _kinds(first.content, tmp_path) == set()
    assert _repair(first.content, tmp_path) == (first.content, {}, ())
