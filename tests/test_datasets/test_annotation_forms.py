"""Annotation files as other tools write them: marks, shares, parents, spellings, odd paths."""

import codecs
import copy
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from coco_samples import HEIGHT, WIDTH, make_coco, write_coco, write_image

from mmdet_salience.datasets.checks.annotation_file import load_annotation_content
from mmdet_salience.datasets.checks.annotation_table import build_annotation_table
from mmdet_salience.datasets.checks.dataset_check import Finding, check_annotations
from mmdet_salience.datasets.checks.dataset_repair import repair_annotations
from mmdet_salience.datasets.checks.image_files import find_outside

Content = dict[str, Any]


def findings_of(content: Content, *args: Any, **options: Any) -> dict[str, Finding]:
    """Findings about a content, by their kinds."""
    table = build_annotation_table(content, 'a.json')
    return {found.kind: found for found in check_annotations(table, *(args or (None,)), **options)}


@pytest.mark.parametrize(
    'mark, encoding',
    [
        (codecs.BOM_UTF8, 'utf-8'),
        (codecs.BOM_UTF16_LE, 'utf-16-le'),
        (codecs.BOM_UTF16_BE, 'utf-16-be'),
    ],
)
def test_the_message_about_a_byte_order_mark_removes_it(
    tmp_path: Path, mark: bytes, encoding: str
) -> None:
    path = tmp_path / "it's.json"
    content = make_coco()
    content['categories'][0]['name'] = 'Fuß'
    path.write_bytes(mark + json.dumps(content, ensure_ascii=False).encode(encoding))
    with pytest.raises(ValueError, match='begins with a byte-order mark') as caught:
        load_annotation_content(path)
    command = str(caught.value).splitlines()[1].strip().replace('python', sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert load_annotation_content(path) == content


def in_shares(content: Content) -> Content:
    """The content with boxes, areas and polygons in shares of the sides."""
    content = copy.deepcopy(content)
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT]
        annotation['area'] /= WIDTH * HEIGHT
        annotation['segmentation'] = [[0.25, 0.5, 0.75, 0.5, 0.5, 1]]
    return content


def test_boxes_in_shares_are_named_and_scaled() -> None:
    content = in_shares(make_coco())
    found = findings_of(content)
    assert {kind: finding.count for kind, finding in found.items()} == {'boxes_in_shares': 8}
    assert 'multiply them by width and height' in found['boxes_in_shares'].remedy
    result = repair_annotations(content)
    assert result.actions == {'scale_box': 8} and result.left == ()
    for new, old in zip(result.content['annotations'], make_coco()['annotations'], strict=True):
        assert new['bbox'] == pytest.approx(old['bbox'], abs=0.01)
        assert new['area'] == pytest.approx(old['area'], abs=0.01)
        assert new['segmentation'] == [[16, 24, 48, 24, 32, 48]]
    assert findings_of(result.content) == {}


def test_shares_that_are_no_corner_and_size_are_left() -> None:
    content = in_shares(make_coco())
    content['annotations'][0]['bbox'] = [0.95, 0.5, 0.1, 0.2]  # a centre
    assert 'centres and sizes' in findings_of(content)['boxes_in_shares'].remedy
    result = repair_annotations(content)
    assert result.actions == {} and 'no box was changed' in result.left[0]
    content = in_shares(make_coco())
    del content['images'][2]['width']
    assert 'unknown size' in repair_annotations(content).left[0]


@pytest.mark.parametrize('box', [[4, 6, 20, 10], [0, 0, 1, 1], [0.2, 0.3, 1.5, 0.5]])
def test_one_box_in_pixels_speaks_for_all(box: list[float]) -> None:
    content = make_coco(1)
    content['annotations'][0]['bbox'] = box
    content['annotations'][1]['bbox'] = [0, 0, 1, 1]
    assert 'boxes_in_shares' not in findings_of(content)


def with_parent(content: Content) -> Content:
    """The content with the parent category of Roboflow's exports."""
    for category in content['categories']:
        category['supercategory'] = 'defects'
    content['categories'].insert(0, dict(id=0, name='defects', supercategory='none'))
    return content


def test_unused_parent_is_named_and_dropped() -> None:
    content = with_parent(make_coco())
    (found,) = findings_of(content).values()
    assert (found.kind, found.is_error) == ('unused_category', False)
    assert 'defects (id 0) is only the parent' in found.remedy
    result = repair_annotations(content)
    assert result.actions == {'drop_parent_category': 1}
    assert [category['id'] for category in result.content['categories']] == [1, 2]
    assert result.content['annotations'] == content['annotations']
    assert repair_annotations(content, None, content['categories']).content == content


def test_a_parent_with_objects_or_another_id_stays() -> None:
    used = with_parent(make_coco())
    used['annotations'][0]['category_id'] = 0
    other = with_parent(make_coco())
    other['categories'][0]['id'] = 7
    own = make_coco()
    own['categories'].append(dict(id=0, name='hole', supercategory='hole'))
    nameless = make_coco()
    nameless['categories'].append(dict(id=0, name=''))
    for content in (used, other, own, nameless):
        assert repair_annotations(content).content == content


def test_files_spelt_otherwise_are_found_in_their_own_folder(tmp_path: Path) -> None:
    """A neighbour with the very names does not lead away from them."""
    content = make_coco(4)
    names = ['Teil/Größe.PNG', 'teil/2.png', 'teil/3.Png', 'teil/none.png']
    real = [unicodedata.normalize('NFD', 'teil/größe.png'), 'teil/2.png', 'teil/3.png']
    for image, name in zip(content['images'], names, strict=True):
        image['file_name'] = name
    root = tmp_path / 'one/images'
    for name in real:
        write_image(root / name)
    for name in names:
        write_image(tmp_path / 'one/other' / name)
    found = findings_of(content, root)['missing_image']
    assert found.count == 3 and 'other' not in found.remedy.split('such as')[1]
    assert found.remedy.startswith('2 of them are there, but spelt otherwise')
    assert 'Gr\\xf6' in found.remedy and 'gro\\u0308' in found.remedy
    result = repair_annotations(content, root)
    assert result.actions == {'match_file_name': 2, 'drop_missing_image': 1, 'drop_with_image': 2}
    assert [image['file_name'] for image in result.content['images']] == real
    write_image(root / 'teil/3.PNG')
    assert repair_annotations(content, root).actions['drop_missing_image'] == 2, 'two are alike'


OUTSIDE = ['../../x.png', '../../data2/x.png', '/etc/x.png', 'a/../../../x.png']
INSIDE = ['x.png', '../other/x.png', 'a/../x.png', './x.png', '..x.png']


@pytest.mark.parametrize('root', ['data', 'data/', './data', None])
def test_names_that_leave_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = [*INSIDE, str(tmp_path / 'data/images/x.png')]
    if root is None:
        inside.remove('../other/x.png')
    assert not find_outside('data/images', inside, root).any()
    assert find_outside('data/images', OUTSIDE, root).all()
    assert find_outside('/elsewhere', [*OUTSIDE, '../x.png'], root).all()
    assert find_outside(None, [*OUTSIDE, '/x.png'], None).all()
    assert find_outside(None, ['x.png', 'a/x.png'], None).tolist() == [False, False]
    assert not find_outside('/', ['x.png'], None).any()


def test_a_linked_folder_is_inside_by_both_of_its_names(tmp_path: Path) -> None:
    (tmp_path / 'real/images').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    for root, other in (('link', 'real'), ('real', 'link')):
        start = tmp_path / root / 'images'
        names = [str(tmp_path / other / 'images/x.png'), str(start / 'x.png'), 'x.png']
        assert not find_outside(start, names, tmp_path / root).any()
        outside = [str(tmp_path / 'x.png'), '../../x.png', str(tmp_path / 'real2/x.png'), '/a\0b']
        assert find_outside(start, outside, tmp_path / root).all()


def test_images_outside_are_an_error_and_never_kept_silently(tmp_path: Path) -> None:
    content = make_coco(3)
    content['images'][1]['file_name'] = '../../secret.png'
    write_coco(tmp_path / 'set/images', content)
    assert (tmp_path / 'secret.png').is_file()
    found = findings_of(content, tmp_path / 'set/images', data_root=tmp_path / 'set')
    assert list(found) == ['image_outside'] and found['image_outside'].is_error
    assert found['image_outside'].examples == ('../../secret.png (id 2)',)
    assert list(findings_of(content)) == ['image_outside'], 'also where no folder is known'
    result = repair_annotations(content, tmp_path / 'set/images')
    assert result.content == content
    assert result.left[0].startswith('1 images lie outside the data root, such as ../../secret.png')
    assert findings_of(content, tmp_path / 'set/images', data_root=tmp_path) == {}
