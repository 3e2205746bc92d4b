"""The checks of a data set: nothing on a clean one, exact counts on broken ones."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_samples import make_coco, write_coco, write_image
from mmdet.datasets import CocoDataset

from mmdet_salience.datasets.checks.annotation_table import AnnotationTable, build_annotation_table
from mmdet_salience.datasets.checks.dataset_check import (
    KINDS,
    check_annotations,
    describe_findings,
    object_table,
)

Content = dict[str, Any]


def _table(content: Content) -> AnnotationTable:
    """Columns of a content."""
    return build_annotation_table(content, 'a.json')


def _counts(content: Content, image_root: Path | None = None, **options: Any) -> dict[str, int]:
    """Count of each kind of finding."""
    findings = check_annotations(_table(content), image_root, **options)
    for finding in findings:
        assert finding.examples and finding.remedy and finding.kind in KINDS
    return {finding.kind: finding.count for finding in findings}


def _set(row: int, **values: Any) -> Callable[[Content], Any]:
    """A change that sets values of an annotation."""
    return lambda content: content['annotations'][row].update(values)


def _set_image(row: int, **values: Any) -> Callable[[Content], Any]:
    """A change that sets values of an image."""
    return lambda content: content['images'][row].update(values)


def _remove(key: str, row: int, field: str) -> Callable[[Content], Any]:
    """A change that removes a field of an entry."""
    return lambda content: content[key][row].pop(field)


def _add_image(**values: Any) -> Callable[[Content], Any]:
    """A change that adds an image with two objects, which may share values with another one."""

    def change(content: Content) -> None:
        """Add the image."""
        extra = make_coco(1, start=9)
        extra['images'][0].update(values)
        for annotation in extra['annotations']:
            annotation['image_id'] = extra['images'][0]['id']
            annotation['bbox'] = [1, 1, 9, 9]
        for key in ('images', 'annotations'):
            content[key] += extra[key]

    return change


BROKEN = [
    (_set(0, bbox=[4, 6, 0, 10]), {'degenerate_box': 1}),
    (_set(0, bbox=[4, 6, -5, 10]), {'degenerate_box': 1}),
    (_set(0, bbox=[4, 6, 0.5, 10]), {'degenerate_box': 1}),
    (_set(0, bbox=[4, 6, float('nan'), 10]), {'invalid_box': 1}),
    (_set(0, bbox=[4, 6, float('inf'), 10]), {'invalid_box': 1}),
    (_set(0, bbox=[4, 6, 1e99, 10]), {'invalid_box': 1}),
    (_set(0, bbox=None), {'invalid_box': 1}),
    (_set(0, bbox=['4', 6, 9, 9]), {'invalid_box': 1}),
    (_set(0, bbox=[4, 6, 9]), {'invalid_box': 1}),
    (_set(0, area=0), {'degenerate_box': 1}),
    (_set(0, attributes=dict(rotation=30.0)), {'turned_box': 1}),
    (_set(0, attributes=dict(rotation=-90)), {'turned_box': 1}),
    (_set(0, attributes=dict(rotation=180.0)), {}),
    (_set(0, attributes=dict(rotation=0.2, occluded=True)), {}),
    (_set(0, attributes=dict(rotation='x')), {}),
    (_set(0, attributes=[30.0]), {}),
    (_set(0, attributes=dict(rotation=30.0), segmentation=[[4, 6, 24, 6, 24, 16]]), {}),
    (_set(0, bbox=None, ignore=True), {}),
    (_set(0, bbox=[4, 6, 1, 1], area=1), {}),
    (_set(0, bbox=[-1, -1, 66, 50]), {}),
    (_set(0, bbox=[-1.5, 6, 20, 10]), {'box_outside_image': 1}),
    (_set(0, bbox=[50, 40, 20, 10]), {'box_outside_image': 1}),
    (_set(0, bbox=[70, 60, 20, 10]), {'box_outside_image': 1}),
    (_set(0, bbox=[70, 60, 20, 10], ignore=True), {}),
    (_remove('annotations', 0, 'area'), {'missing_area': 1}),
    (_remove('annotations', 0, 'iscrowd'), {'missing_crowd_flag': 1}),
    (_set(0, id=0), {'unusable_annotation_id': 1}),
    (_set(0, id='a-1'), {'unusable_annotation_id': 1}),
    (_set(0, id=2), {'duplicate_annotation_id': 1}),
    (_set(0, image_id=99), {'unknown_image': 1}),
    (_set(0, category_id=99), {'unknown_category': 1}),
    (_set(1, bbox=[4, 6, 20, 10], category_id=1), {'duplicate_box': 1}),
    (_set(1, bbox=[4, 6, 20, 10]), {}),
    (_set(1, image_id=2), {'duplicate_box': 1}),
    (_set_image(0, width=0), {'missing_size': 1}),
    (_remove('images', 0, 'height'), {'missing_size': 1}),
    (_add_image(id=1), {'duplicate_image_id': 1}),
    (_add_image(file_name='./2.png'), {'duplicate_file': 1}),
    (_add_image(id=2, file_name='2.png'), {'duplicate_image_id': 1, 'duplicate_file': 1}),
    (lambda c: c['categories'].append(dict(id=3, name='stain')), {'unused_category': 1}),
    (
        lambda c: c['categories'].append(dict(id=3, name='pore')),
        {'duplicate_category': 1, 'unused_category': 1},
    ),
    (
        lambda c: c['categories'].insert(0, dict(id=2, name='hole')),
        {'duplicate_category': 1, 'unused_category': 1},
    ),
    (
        lambda c: c['images'].append(dict(c['images'][0], id=9, file_name='9.png')),
        {'no_objects': 1},
    ),
    (lambda c: c.update(annotations=[]), {'no_objects': 4, 'unused_category': 2}),
]


def test_clean_set_has_no_findings(tmp_path: Path) -> None:
    content = make_coco()
    write_coco(tmp_path, content)
    assert check_annotations(_table(content), None) == ()
    assert check_annotations(_table(content), tmp_path) == ()
    assert check_annotations(_table(content), tmp_path, evaluated=True) == ()
    assert describe_findings(()) == 'no problems found'


@pytest.mark.parametrize('change, expected', BROKEN)
def test_each_fault_is_found_alone(change: Callable, expected: dict[str, int]) -> None:
    content = make_coco()
    change(content)
    assert _counts(content) == expected


def test_faults_add_up() -> None:
    content = make_coco(6)
    for row in range(5):
        _set(row, bbox=[0, 0, 0, 0])(content)
    for row in range(5, 8):
        _set(row, bbox=[60, 40, 30, 30])(content)
    _set(8, image_id=99)(content)
    assert _counts(content) == {'degenerate_box': 5, 'box_outside_image': 3, 'unknown_image': 1}


def test_cocodataset_drops_what_is_found(tmp_path: Path) -> None:
    """The rules are those of the installed MMDetection."""
    content = make_coco(8)
    boxes = [
        [4, 6, 0, 9],
        [4, 6, 9, 0.9],
        [4, 6, -5, 9],
        [64, 6, 9, 9],
        [-9, 6, 9, 9],
        [63, 6, 9, 9],
    ]
    for row, box in enumerate(boxes):
        _set(row, bbox=box)(content)
    _set(6, area=0)(content)
    _set(7, image_id=99)(content)
    _set(8, category_id=99)(content)
    _set(9, ignore=True)(content)
    path = write_coco(tmp_path, content)
    classes = dict(classes=('crack', 'pore'))
    dataset = CocoDataset(ann_file=str(path), data_prefix=dict(img=''), metainfo=classes)
    kept = [len(dataset.get_data_info(index)['instances']) for index in range(len(dataset))]
    assert kept == [0, 0, 1, 0, 0, 2, 2, 2]
    findings = {f.kind: f.count for f in check_annotations(_table(content), None)}
    dropped = ('degenerate_box', 'unknown_image', 'unknown_category')
    assert [findings[kind] for kind in dropped] == [4, 1, 1]
    assert findings['box_outside_image'] == 3, 'two of them wholly outside'


def test_what_is_an_error() -> None:
    warnings = {
        'deep_image',
        'duplicate_box',
        'missing_crowd_flag',
        'no_objects',
        'shared_image',
        'unusable_annotation_id',
        'unused_category',
    }
    assert {kind for kind, known in KINDS.items() if not known.is_error} == warnings


def test_evaluation_needs_crowd_flags() -> None:
    content = make_coco()
    del content['annotations'][0]['iscrowd']
    (trained,) = check_annotations(_table(content), None)
    (evaluated,) = check_annotations(_table(content), None, evaluated=True)
    assert not trained.is_error and evaluated.is_error


def test_tolerance_and_number_of_examples() -> None:
    content = make_coco(4)
    for annotation in content['annotations']:
        annotation['bbox'][0] = -3
    table = _table(content)
    assert check_annotations(table, None, tolerance=3) == ()
    (few,) = check_annotations(table, None, max_examples=2)
    assert few.count == 8 and len(few.examples) == 2
    (every,) = check_annotations(table, None, max_examples=None)
    assert len(every.examples) == 8
    assert every.examples[0] == (
        'annotation 1 of 1.png (id 1): crack [-3, 6, 20, 10], area 200, image 64x48'
    )


def test_corners_instead_of_sizes_are_recognised() -> None:
    content = make_coco(6)
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]
    (finding,) = check_annotations(_table(content), None)
    assert finding.kind == 'box_outside_image' and finding.count == 6
    assert 'two corners' in finding.remedy


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    content = make_coco(5)
    write_coco(tmp_path, content)
    (tmp_path / '2.png').unlink()
    (tmp_path / '3.png').write_bytes(b'')
    (tmp_path / '4.png').write_text('<html>not found</html>')
    (tmp_path / '5.png').unlink()
    (tmp_path / '5.png').mkdir()
    assert _counts(content, tmp_path) == {'missing_image': 2, 'unreadable_image': 2}
    assert _counts(content, tmp_path / 'nowhere') == {'missing_image': 5}


def test_max_headers_are_evenly_spaced(tmp_path: Path) -> None:
    content = make_coco(9)
    write_coco(tmp_path, content)
    for index in range(1, 10):
        write_image(tmp_path / f'{index}.png', (10, 10))
    (finding,) = check_annotations(_table(content), tmp_path, max_headers=3)
    assert [text.split()[0] for text in finding.examples] == ['1.png', '5.png', '9.png']
    assert _counts(content, tmp_path, max_headers=0) == {}
    assert _counts(content, tmp_path, max_headers=100) == {'size_mismatch': 9}


def test_progress_sees_every_header(tmp_path: Path) -> None:
    content = make_coco(4)
    write_coco(tmp_path, content)
    seen: list = []

    def progress(headers: Any, total: int) -> list:
        """Note the headers that pass."""
        seen.extend(headers)
        assert total == len(seen)
        return seen

    assert check_annotations(_table(content), tmp_path, progress=progress) == ()
    assert [header.size for header in seen] == [(64, 48)] * 4


def test_description_puts_errors_first_and_shortens() -> None:
    content = make_coco(8)
    content['categories'].append(dict(id=3, name='stain'))
    for annotation in content['annotations']:
        annotation['bbox'][2] = 0
    text = describe_findings(check_annotations(_table(content), None), max_examples=3)
    lines = text.splitlines()
    assert lines[0] == '1 kind of error, 1 kind of warning'
    assert lines[1].startswith('ERROR   degenerate_box (16): boxes without extent')
    assert sum('annotation ' in line for line in lines) == 3
    assert '... and 13 more' in text
    assert text.index('ERROR') < text.index('warning unused_category (1)')
    assert '--repair' in text and max(map(len, lines)) <= 100


def test_object_table_counts_sizes_and_crowds() -> None:
    content = make_coco(3)
    areas = [1023, 1024, 9215, 9216, None, 5]
    for annotation, area in zip(content['annotations'], areas, strict=True):
        annotation['area'] = area
    content['annotations'][5]['iscrowd'] = 1
    content['annotations'].append(dict(content['annotations'][0], id=99, ignore=True))
    rows = [line.split() for line in object_table(_table(content)).splitlines()]
    assert rows == [
        ['class', 'objects', 'images', 'share', 'small', 'medium', 'large', 'crowd'],
        ['crack', '3', '3', '60.0%', '2', '1', '0', '0'],
        ['pore', '2', '2', '40.0%', '0', '1', '1', '1'],
        ['total', '5', '3', '100.0%', '2', '2', '1', '1'],
    ]
    lines = object_table(_table(content)).splitlines()
    assert len({len(line) for line in lines}) == 1
    content['annotations'] = []
    assert object_table(_table(content)).splitlines()[-1].split()[1:4] == ['0', '0', '0.0%']


def test_checks_leave_the_content_alone(tmp_path: Path) -> None:
    content = make_coco()
    before = copy.deepcopy(content)
    check_annotations(_table(content), tmp_path)
    assert content == before
