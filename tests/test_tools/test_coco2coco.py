"""The converter of COCO exports, on sets in the layouts of CVAT, Label Studio and Roboflow."""

import json
import math
from pathlib import Path
from typing import Any

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
from pycocotools import mask as coco_mask

from mmdet_salience.datasets.checks.annotation_table import read_annotation_table
from mmdet_salience.datasets.checks.dataset_check import check_annotations

main = load_converter('coco2coco').main
SIZE = (200, 100)


def image(number: int, name: str, **more: Any) -> dict[str, Any]:
    """Entry of an image of ``SIZE``."""
    return dict(id=number, file_name=name, width=SIZE[0], height=SIZE[1]) | more


def cvat_object(number: int, owner: int, category: int, box: list, **more: Any) -> dict[str, Any]:
    """An object as CVAT writes a rectangle."""
    attributes = dict(occluded=False, rotation=more.pop('rotation', 0.0))
    common = dict(id=number, image_id=owner, category_id=category, segmentation=[], iscrowd=0)
    return common | dict(bbox=box, area=box[2] * box[3], attributes=attributes) | more


def save_export(path: Path, images: list, categories: list, annotations: list) -> None:
    """Write an annotation file with further keys, as the tools do."""
    content = dict(images=images, categories=categories, annotations=annotations)
    save_text(path, json.dumps(dict(licenses=[dict(id=0, name='', url='')], info={}) | content))


def assert_ready(root: Path, *splits: str) -> None:
    """The written files pass the check, all images opened."""
    for split in splits:
        table = read_annotation_table(str(root / f'annotations/{split}.json'))
        findings = check_annotations(table, str(root), evaluated=True)
        assert [f.kind for f in findings if f.kind not in ('unused_category', 'no_objects')] == []


@pytest.fixture
def cvat(tmp_path: Path) -> Path:
    """A project as CVAT exports it as COCO 1.0: boxes, a turned one, a polygon, a mask, a crowd."""
    categories = [dict(id=i, name=n, supercategory='') for i, n in ((1, 'pit'), (2, 'crack'))]
    runs = [10 * 100 + 20, 5, 95, 5, 200 * 100 - 1125]  # two columns from x = 10, y = 20
    mask = dict(counts=runs, size=[100, 200])
    annotations = [
        cvat_object(1, 1, 1, [10.0, 20.0, 30.5, 40.0]),
        cvat_object(2, 1, 2, [80.0, 40.0, 40.0, 20.0], rotation=90.0),
        cvat_object(3, 1, 2, [80.0, 40.0, 40.0, 20.0], rotation=330.0),
        cvat_object(4, 2, 1, [10, 10, 20, 10], segmentation=[[10, 10, 30, 10, 30, 20]], area=100),
        cvat_object(5, 2, 2, [10, 20, 2, 5], segmentation=mask, iscrowd=1, area=10),
    ]
    images = [image(i, f'{name}.png', flickr_url='') for i, name in ((1, 'a'), (2, 'sub/b'))]
    images.append(image(3, 'c.png'))
    for entry in images:
        save_image(tmp_path / 'images' / entry['file_name'], SIZE)
    save_export(tmp_path / 'annotations/instances_default.json', images, categories, annotations)
    return tmp_path


def test_cvat(cvat: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(cvat)])
    content = read_split(cvat, 'train')
    assert [entry['file_name'] for entry in content['images']] == [
        'images/a.png',
        'images/sub/b.png',
        'images/c.png',
    ]
    cos, sin = math.cos(math.pi / 6), 0.5
    width, height = 40 * cos + 20 * sin, 40 * sin + 20 * cos
    boxes = boxes_of(content, 'images/a.png')
    assert boxes[:2] == [('pit', [10, 20, 30.5, 40]), ('crack', [90, 30, 20, 40])]
    expected = [100 - width / 2, 50 - height / 2, width, height]
    assert boxes[2] == ('crack', pytest.approx(expected, abs=0.011))
    polygon, crowd = content['annotations'][3:]
    assert (polygon['segmentation'], polygon['area']) == ([[10, 10, 30, 10, 30, 20]], 100)
    assert (crowd['iscrowd'], crowd['bbox'], crowd['area']) == (1, [10, 20, 2, 5], 10)
    row = table_row(capsys.readouterr().out, 'train')
    assert (row['turned'], row['empty'], row['crowd']) == ('2', '1', '1')
    assert_ready(cvat, 'train')


def test_a_turned_box_over_the_border_is_cut(tmp_path: Path) -> None:
    convert_one(tmp_path, cvat_object(1, 1, 1, [5, 6, 70, 8], rotation=90))
    main([str(tmp_path)])
    assert boxes_of(read_split(tmp_path, 'train'), 'images/a.png') == [('pit', [36, 0, 8, 45])]


def test_cvat_divided(cvat: Path) -> None:
    main([str(cvat), '--split-ratio', '2:1'])
    train, val = read_split(cvat, 'train'), read_split(cvat, 'val')
    assert [len(content['images']) for content in (train, val)] == [2, 1]
    assert train['categories'] == val['categories']
    assert len(train['annotations']) + len(val['annotations']) == 5


def test_cvat_with_subsets_whose_categories_differ(tmp_path: Path) -> None:
    names = {'Train': ('pit', 'crack'), 'Validation': ('crack', 'pit', 'dent')}
    for subset, classes in names.items():
        save_image(tmp_path / f'images/{subset}.png', SIZE)
        categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
        path = tmp_path / f'annotations/instances_{subset}.json'
        save_export(path, [image(1, f'{subset}.png')], categories, [cvat_object(1, 1, 1, [1] * 4)])
    main([str(tmp_path)])
    train, val = read_split(tmp_path, 'train'), read_split(tmp_path, 'val')
    assert train['categories'] == val['categories']
    assert [c['name'] for c in train['categories']] == ['pit', 'crack', 'dent']
    assert boxes_of(val, 'images/Validation.png') == [('crack', [1, 1, 1, 1])]


LABEL_STUDIO_NAMES = [
    'images/1a2b3c4d-photo_1.jpg',
    'images\\1a2b3c4d-photo_1.jpg',
    'images\\1/1a2b3c4d-photo_1.jpg',
    '..\\..\\label-studio\\media\\upload\\4\\1a2b3c4d-photo_1.jpg',
    '/data/upload/4/1a2b3c4d-photo_1.jpg',
    's3://bucket/photos/1a2b3c4d-photo_1.jpg',
]


@pytest.mark.parametrize('name', LABEL_STUDIO_NAMES)
def test_label_studio(tmp_path: Path, name: str) -> None:
    save_image(tmp_path / 'images/1a2b3c4d-photo_1.jpg', SIZE)
    item = dict(id=0, image_id=0, category_id=0, segmentation=[], bbox=[5, 6, 7, 8], ignore=0)
    categories = [dict(id=0, name='pit'), dict(id=1, name='crack')]
    save_export(tmp_path / 'result.json', [image(0, name)], categories, [item])
    main([str(tmp_path)])
    content = read_split(tmp_path, 'train')
    assert boxes_of(content, 'images/1a2b3c4d-photo_1.jpg') == [('pit', [5, 6, 7, 8])]
    (written,) = content['annotations']
    assert (written['id'], written['area'], written['iscrowd']) == (1, 56, 0)
    assert_ready(tmp_path, 'train')


def test_label_studio_beside_the_original_images(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_image(tmp_path / 'mine/photo 1.jpg', SIZE)
    images = [image(0, 'images/1a2b3c4d-photo%201.jpg')]
    save_export(tmp_path / 'result.json', images, [dict(id=0, name='pit')], [])
    main([str(tmp_path)])
    assert [i['file_name'] for i in read_split(tmp_path, 'train')['images']] == ['mine/photo 1.jpg']
    printed = capsys.readouterr().out
    assert 'images found by their name: 1\n  images/1a2b3c4d-photo%201.jpg: mine/photo 1' in printed


def test_roboflow_with_its_parent_category(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    categories = [
        dict(id=0, name='defects', supercategory='none'),
        dict(id=1, name='pit', supercategory='defects'),
        dict(id=2, name='crack', supercategory='defects'),
    ]
    for split in ('train', 'valid'):
        save_image(tmp_path / f'{split}/a.jpg', SIZE)
        item = cvat_object(0, 0, 1, [1, 2, 3, 4])
        path = tmp_path / f'{split}/_annotations.coco.json'
        save_export(path, [image(0, 'a.jpg')], categories, [item])
    main([str(tmp_path)])
    assert boxes_of(read_split(tmp_path, 'val'), 'valid/a.jpg') == [('pit', [1, 2, 3, 4])]
    assert [c['name'] for c in read_split(tmp_path, 'train')['categories']] == ['pit', 'crack']
    assert 'parent categories without objects, left out: 2' in capsys.readouterr().out


def convert_one(root: Path, *items: dict, name: str = 'a.png', **more: Any) -> None:
    """Write an export of one image with these objects."""
    save_image(root / 'images/a.png', SIZE)
    objects = [dict(id=i, image_id=1, category_id=1) | item for i, item in enumerate(items, 1)]
    save_export(root / 'result.json', [image(1, name, **more)], [dict(id=1, name='pit')], objects)


def test_boxes_of_polygons_and_masks_without_one(tmp_path: Path) -> None:
    runs = [1020, 5, 95, 5, 18875]
    assert coco_mask.area(coco_mask.frPyObjects(dict(counts=runs, size=[100, 200]), 100, 200)) == 10
    convert_one(
        tmp_path,
        dict(segmentation=[[10, 20, 30, 20, 30, 40], [50, 60, 70, 60, 70, 80.5]]),
        dict(bbox=[], segmentation=dict(counts=runs, size=[100, 200])),
        dict(bbox=[190, 0, 14, 10], area=140),
        dict(bbox=[1, 1, 5, 5], ignore=1),
        dict(segmentation=[[1, 2, 9, 2, 9, 8]], attributes=dict(rotation=45)),
    )
    main([str(tmp_path)])
    content = read_split(tmp_path, 'train')
    assert [box for _, box in boxes_of(content, 'images/a.png')] == [
        [10, 20, 60, 60.5],
        [10, 20, 2, 5],
        [190, 0, 10, 10],
        [1, 2, 8, 6],
    ]
    assert content['annotations'][2]['area'] == 100  # of what is in the image


BROKEN_OBJECTS = {
    'no box': (dict(segmentation=[]), 'objects without bbox: 1'),
    'three numbers': (dict(bbox=[1, 2, 3]), 'broken boxes: 1'),
    'NaN': (dict(bbox=[1, 2, 3, math.nan]), 'broken boxes: 1'),
    'text': (dict(bbox='1 2 3 4'), 'broken boxes: 1'),
    'flat': (dict(bbox=[1, 2, 0, 4]), 'boxes without area: 1'),
    'outside': (dict(bbox=[500, 2, 5, 5]), 'boxes outside the image: 1'),
    'rotation': (dict(bbox=[1, 2, 3, 4], attributes=dict(rotation='x')), "rotation is 'x'"),
    'category': (dict(bbox=[1, 2, 3, 4], category_id=7), 'objects of unknown categories: 1'),
    'category list': (dict(bbox=[1, 2, 3, 4], category_id=[1]), 'objects of unknown categories'),
    'image': (dict(bbox=[1, 2, 3, 4], image_id=9), 'objects of unknown images: 1'),
    'size of mask': (dict(segmentation=dict(counts=[6], size=[2, 3])), 'broken masks: 1'),
    'runs': (dict(segmentation=dict(counts=[6, -1], size=[100, 200])), 'do not cover'),
    'compressed': (dict(segmentation=dict(counts='PP', size=[100, 200])), 'masks without bbox'),
}


@pytest.mark.parametrize('item, message', BROKEN_OBJECTS.values(), ids=list(BROKEN_OBJECTS))
def test_broken_objects_are_named(tmp_path: Path, item: dict, message: str) -> None:
    convert_one(tmp_path, dict(bbox=[1, 1, 5, 5]), item)
    found = failure(main, tmp_path)
    assert message in found
    assert 'object 2' in found
    main([str(tmp_path), '--skip-problems'])
    assert boxes_of(read_split(tmp_path, 'train'), 'images/a.png') == [('pit', [1, 1, 5, 5])]


def test_images_that_are_missing_ambiguous_or_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / 'export'
    save_image(tmp_path / 'outside.png', SIZE)
    for folder in ('x', 'y'):
        save_image(root / folder / 'twice.png', SIZE)
    names = (
        'gone.png',
        '../outside.png',
        str(tmp_path / 'outside.png'),
        'twice.png',
        'x/twice.png',
    )
    images = [image(i, name) for i, name in enumerate(names)]
    save_export(root / 'result.json', [*images, dict(id=9)], [dict(id=1, name='pit')], [])
    found = failure(main, root)
    assert 'missing images: 3' in found
    assert 'names of several images: 1\n  twice.png: x/twice.png, y/twice.png' in found
    assert 'images without file_name: 1' in found
    main([str(root), '--skip-problems'])
    assert [i['file_name'] for i in read_split(root, 'train')['images']] == ['x/twice.png']


def test_several_splits_need_a_ratio(tmp_path: Path) -> None:
    convert_one(tmp_path, dict(bbox=[1, 1, 5, 5]))
    message = failure(main, tmp_path, '--splits', 'train', 'val')
    assert 'which images belong to train, val; divide them by --split-ratio' in message
    main([str(tmp_path), '--splits', 'val'])
    assert len(read_split(tmp_path, 'val')['images']) == 1


@pytest.mark.parametrize('folder, root', [('set', '.'), ('set/images', '..')])
def test_a_relative_data_root_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, root: str
) -> None:
    convert_one(tmp_path / 'set', name='../outside.png')
    save_image(tmp_path / 'outside.png', SIZE)
    monkeypatch.chdir(tmp_path / folder)
    assert 'missing images: 1' in failure(main, Path(root))
    convert_one(tmp_path / 'set', name='a.png')
    main([root])
    names = [i['file_name'] for i in read_split(tmp_path / 'set', 'train')['images']]
    assert names == ['images/a.png']


def test_a_linked_folder_of_images(tmp_path: Path) -> None:
    root = tmp_path / 'set'
    save_image(tmp_path / 'disk/foo.png', SIZE)
    save_image(root / 'photos/foo.png', SIZE)
    images = [image(1, 'images/1a2b3c4d-foo.png')]
    save_export(root / 'result.json', images, [dict(id=1, name='pit')], [])
    (root / 'images').symlink_to(root / 'photos')
    main([str(root)])  # the same file by two paths
    (root / 'images').unlink()
    (root / 'photos/foo.png').unlink()
    (root / 'images').symlink_to(tmp_path / 'disk')
    main([str(root)])
    assert [i['file_name'] for i in read_split(root, 'train')['images']] == ['images/foo.png']
    (root / 'images').rename(root / 'linked')
    assert 'linked folders are searched by --image-dir only: linked' in failure(main, root)
    main([str(root), '--image-dir', 'linked'])
    assert [i['file_name'] for i in read_split(root, 'train')['images']] == ['linked/foo.png']


def test_folders_decide_between_equal_names(tmp_path: Path) -> None:
    for folder in ('upload/1', 'upload/2'):
        save_image(tmp_path / folder / 'a.png', SIZE)
    images = [image(1, '/srv/media/upload/2/a.png')]
    save_export(tmp_path / 'result.json', images, [dict(id=1, name='pit')], [])
    main([str(tmp_path)])
    assert [i['file_name'] for i in read_split(tmp_path, 'train')['images']] == ['upload/2/a.png']


def test_sizes_are_read_where_they_are_missing_and_compared(tmp_path: Path) -> None:
    convert_one(tmp_path, dict(bbox=[1, 1, 5, 5]), width=0, height=None)
    main([str(tmp_path)])
    (entry,) = read_split(tmp_path, 'train')['images']
    assert (entry['width'], entry['height']) == SIZE
    convert_one(tmp_path, width=100, height=200)
    with pytest.raises(SystemExit, match=r'images/a\.png: 100x200, the image is 200x100'):
        main([str(tmp_path)])


@pytest.mark.parametrize(
    'text, message',
    [
        ('{', 'is not valid JSON'),
        ('[]', 'instead of a COCO object'),
        ('{"images": []}', 'no list of objects categories'),
        ('{"images": [1], "categories": [], "annotations": []}', 'no list of objects images'),
        ('{"images": [{}], "categories": [], "annotations": []}', "lacks 'id'"),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], '
            '"annotations": []}',
            'an id stands for two',
        ),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    save_text(tmp_path / 'result.json', text)
    found = failure(main, tmp_path)
    assert message in found
    assert 'result.json' in found


def test_files_are_looked_for_and_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert 'holds no annotations/instances_default.json' in failure(main, tmp_path)
    assert 'holds no x/{split}.json' in failure(main, tmp_path, '--ann-file', 'x/{split}.json')
    ratio = ['--ann-file', '{split}.json', '--split-ratio', '1:1']
    assert '--split-ratio does not go with' in refusal(main, tmp_path, ratio, capsys)
    save_image(tmp_path / 'images/a.png', SIZE)
    path = tmp_path / 'annotations/train.json'
    save_export(path, [image(1, 'a.png')], [dict(id=1, name='pit')], [])
    options = ['--ann-file', 'annotations/train.json']
    assert 'would be replaced; name an --out-dir' in failure(main, tmp_path, *options)
    main([str(tmp_path), *options, '--out-dir', str(tmp_path / 'new')])
    assert json.loads((tmp_path / 'new/train.json').read_text())['images'][0]['id'] == 1
