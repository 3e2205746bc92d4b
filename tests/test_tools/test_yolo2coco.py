"""The converter of YOLO labels, on small datasets that the tests write."""

from pathlib import Path

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
from pycocotools.coco import COCO

main = load_converter('yolo2coco').main

SIZE = (200, 100)
YAML = 'path: .\ntrain: images/train\nval: images/val\nnames: [pit, scratch]\nnc: 2\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images in two splits; the last one has no label file."""
    root = tmp_path / 'data'
    for name in ('train/a', 'train/b', 'val/c'):
        save_image(root / f'images/{name}.jpg', SIZE)
    save_text(root / 'labels/train/a.txt', '1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.1 0.2\n')
    save_text(root / 'labels/val/c.txt', '0 0.1 0.1 0.5 0.1 0.5 0.9\n')
    save_text(root / 'data.yaml', YAML)
    return root


def test_boxes_and_polygons(data: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(data)])
    train, val = read_split(data, 'train'), read_split(data, 'val')
    assert train['categories'] == [{'id': 1, 'name': 'pit'}, {'id': 2, 'name': 'scratch'}]
    assert boxes_of(train, 'images/train/a.jpg') == [
        ('scratch', [80, 30, 40, 40]),
        ('pit', [10, 10, 20, 20]),
    ]
    assert boxes_of(train, 'images/train/b.jpg') == []
    (polygon,) = val['annotations']
    assert polygon['bbox'] == [20, 10, 80, 80]
    assert polygon['segmentation'] == [[20, 10, 100, 10, 100, 90]]
    assert polygon['area'] == 80 * 80 / 2
    printed = capsys.readouterr().out
    assert table_row(printed, 'train') == {
        'split': 'train',
        'images': '2',
        'empty': '1',
        'pit': '1',
        'scratch': '1',
        'boxes': '2',
        'clipped': '0',
        'no label': '1',
    }
    assert f'written to {data}/annotations' in printed


def test_polygon_is_read_by_pycocotools(data: Path) -> None:
    main([str(data)])
    coco = COCO(str(data / 'annotations/val.json'))
    assert coco.annToMask(coco.anns[1]).sum() == pytest.approx(3200, rel=0.02)


@pytest.mark.parametrize(
    'names', ['{0: pit, 1: scratch}', '{1: scratch, 0: pit}', '\n  - pit\n  - scratch']
)
def test_forms_of_names(data: Path, names: str) -> None:
    save_text(data / 'data.yaml', YAML.replace('[pit, scratch]', names))
    main([str(data)])
    names = [c['name'] for c in read_split(data, 'val')['categories']]
    assert names == ['pit', 'scratch']


def test_class_numbers_with_gaps(data: Path) -> None:
    text = YAML.replace('[pit, scratch]', '{7: scratch, 0: pit}')
    save_text(data / 'data.yaml', text)
    save_text(data / 'labels/train/a.txt', '7 0.5 0.5 0.2 0.4')
    main([str(data)])
    assert boxes_of(read_split(data, 'train'), 'images/train/a.jpg')[0][0] == 'scratch'
    save_text(data / 'labels/train/a.txt', '1 0.5 0.5 0.2 0.4')
    assert 'unknown classes: 1' in failure(main, data)


def test_lists_of_images_and_of_folders(data: Path) -> None:
    """A text file of images, and more than one folder."""
    save_text(data / 'lists/train.txt', './images/train/a.jpg\nimages/train/b.jpg\n')
    save_image(data / 'more/d.png', SIZE)
    text = YAML.replace('images/train', 'lists/train.txt')
    save_text(data / 'data.yaml', text.replace('images/val', '[images/val, more]'))
    main([str(data)])
    names = {s: [i['file_name'] for i in read_split(data, s)['images']] for s in ('train', 'val')}
    assert names == {
        'train': ['images/train/a.jpg', 'images/train/b.jpg'],
        'val': ['images/val/c.jpg', 'more/d.png'],
    }


def test_paths_of_exports(tmp_path: Path) -> None:
    """``../train/images`` beside a data.yaml stands for ``train/images``; labels lie beside."""
    save_image(tmp_path / 'set/train/images/a.jpg', SIZE)
    save_text(tmp_path / 'set/train/labels/a.txt', '0 0.5 0.5 1 1')
    save_text(tmp_path / 'set/data.yaml', 'train: ../train/images\nnames: [pit]\n')
    main([str(tmp_path / 'set')])
    content = read_split(tmp_path / 'set', 'train')
    assert boxes_of(content, 'train/images/a.jpg') == [('pit', [0, 0, 200, 100])]


def test_yaml_elsewhere(data: Path, tmp_path: Path) -> None:
    (data / 'data.yaml').rename(tmp_path / 'other.yaml')
    save_text(tmp_path / 'other.yaml', YAML.replace('path: .', f'path: {data}'))
    main([str(data), '--data-yaml', str(tmp_path / 'other.yaml')])
    assert len(read_split(data, 'train')['annotations']) == 2


def test_classes_and_folders_without_yaml(tmp_path: Path) -> None:
    """Labels next to the images do too; a byte order mark and tabs do no harm."""
    for split in ('train', 'test'):
        save_image(tmp_path / f'{split}/images/a.JPG', SIZE)
        save_text(tmp_path / f'{split}/images/a.txt', '\ufeff1\t0.5 0.5\t0.1 0.1\r\n')
    save_text(tmp_path / 'classes.txt', 'pit\nlong scratch\n')
    options = ['--classes', str(tmp_path / 'classes.txt'), '--image-dir', '{split}/images']
    main([str(tmp_path), *options])
    assert boxes_of(read_split(tmp_path, 'test'), 'test/images/a.JPG') == [
        ('long scratch', [90, 45, 20, 10])
    ]
    assert not (tmp_path / 'annotations/val.json').exists()


BROKEN = {
    '0 0.5 0.5 0.2 0.2 0.9': ('lines of six numbers', 'a sixth number is a confidence'),
    '0 0.5 0.5 0.2': ('broken lines', 'expected "class cx cy w h"'),
    '0 0.5 0.5 0.2 0.2 0.1 0.1 0.1': ('broken lines', 'x3 y3'),
    'pit 0.5 0.5 0.2 0.2': ('broken lines', "got 'pit 0.5"),
    '0 nan 0.5 0.2 0.2': ('broken lines', 'nan'),
    '0 100 50 20 20': ('lines in pixels', 'from 0 to 1'),
    '2 0.5 0.5 0.2 0.2': ('unknown classes', '2, expected numbers from 0 to 1'),
    '0.5 0.5 0.5 0.2 0.2': ('unknown classes', '0.5, expected'),
    '0 0.5 0.5 0 0.2': ('boxes without area', 'box 100 40 100 60 has no area'),
    '0 0.5 0.5 -0.1 0.2': ('boxes without area', 'has no area'),
    '0 0.9 0.5 0.26 0.2': ('boxes outside the image', 'box 154 40 206 60 leaves the 200x100'),
    '0 0.1 0.1 0.2 0.2 0.3 0.3': ('polygons without area', '3 points on a line'),
    '0 0.1 0.1 0.1 0.3 0.1 0.2': ('boxes without area', 'has no area'),
    '0 0.1 0.1 0.5 0.1 0.5 1.06': ('boxes outside the image', 'box 20 10 100 106'),
}


@pytest.mark.parametrize('line', list(BROKEN))
def test_broken_lines(data: Path, line: str) -> None:
    kind, detail = BROKEN[line]
    save_text(data / 'labels/train/a.txt', f'0 0.5 0.5 0.2 0.2\n\n{line}\n')
    message = failure(main, data)
    assert message.startswith(f'{kind}: 1\n  labels/train/a.txt:3: ')
    assert detail in message
    main([str(data), '--skip-problems'])
    train = read_split(data, 'train')
    assert boxes_of(train, 'images/train/a.jpg') == [('pit', [80, 40, 40, 20])]
    assert len(train['images']) == 2


def test_clips_within_the_tolerance(data: Path, capsys: pytest.CaptureFixture) -> None:
    lines = '0 0.9 0.5 0.24 0.2\n1 -0.02 0.1 0.5 0.1 0.5 1.04\n0 0.5 0.5 1.000001 1\n'
    save_text(data / 'labels/train/a.txt', lines)
    main([str(data)])
    first, polygon, whole = read_split(data, 'train')['annotations']
    assert (first['bbox'], first['area']) == ([156, 40, 44, 20], 880)
    assert (polygon['bbox'], polygon['segmentation']) == (
        [0, 10, 100, 90],
        [[0, 10, 100, 10, 100, 100]],
    )
    assert polygon['area'] == 100 * 90 / 2
    assert whole['bbox'] == [0, 0, 200, 100]
    assert table_row(capsys.readouterr().out, 'train')['clipped'] == '2'
    assert 'more than 3 pixels' in failure(main, data, '--tolerance', '3')


def test_missing_and_unreadable_images(data: Path) -> None:
    save_text(data / 'train.txt', './images/train/a.jpg\nimages/train/z.jpg\n')
    save_text(data / 'data.yaml', YAML.replace('images/train', 'train.txt'))
    save_text(data / 'images/val/c.jpg', 'no image')
    message = failure(main, data)
    assert 'missing images: 1\n  images/train/z.jpg: listed in train.txt' in message
    assert 'unreadable images: 1\n  images/val/c.jpg: not a readable image' in message


def test_images_listed_twice_and_in_two_splits(data: Path) -> None:
    save_text(data / 'train.txt', 'images/train/a.jpg\nimages/val/c.jpg\n./images/train/a.jpg\n')
    save_text(data / 'data.yaml', YAML.replace('images/train', 'train.txt'))
    message = failure(main, data)
    assert 'images listed more than once: 1\n  train: images/train/a.jpg' in message
    assert 'images in more than one split: 1\n  images/val/c.jpg: in train and val' in message
    assert 'no images left in val' in failure(main, data, '--skip-problems')


def test_misplaced_labels(data: Path) -> None:
    """A split without any label is more likely one whose labels lie elsewhere."""
    (data / 'labels/train').rename(data / 'labels/training')
    message = failure(main, data)
    assert 'splits without any label file: 1\n  train: none for images/train/a.jpg' in message
    assert 'labels of X/images/ belong in X/labels/' in message


@pytest.mark.parametrize(
    'text, expected',
    [
        ('train: images/train\n', 'names must hold different names'),
        ('train: images/train\nnames: pit\n', 'names must hold'),
        ('train: images/train\nnames: [pit, pit]\n', 'names must hold different'),
        ('train: images/train\nnames: {a: pit}\n', 'names must hold'),
        ('train: images/train\nnames: [pit]\nnc: 2\n', 'nc is 2, but names has 1'),
        ('names: [pit]\n', 'has no key train or val or test'),
        ('train: pictures\nnames: [pit]\n', 'data.yaml: train: there is no pictures in'),
        ('- a\n- b\n', 'expected keys such as names'),
        ('train: [\n', 'cannot read'),
    ],
)
def test_broken_yaml(data: Path, text: str, expected: str) -> None:
    save_text(data / 'data.yaml', text)
    message = failure(main, data)
    assert expected in message
    assert 'data.yaml' in message


def test_missing_yaml_and_splits(data: Path) -> None:
    assert 'has no key test' in failure(main, data, '--splits', 'train', 'test')
    (data / 'data.yaml').unlink()
    assert 'by --data-yaml, or give --classes and --image-dir' in failure(main, data)
    options = ['--classes', 'pit', 'scratch', '--image-dir', 'pictures/{split}']
    assert 'pictures/train' in failure(main, data, *options)


def test_image_dir_without_splits(data: Path, capsys: pytest.CaptureFixture) -> None:
    options = ['--classes', 'pit', '--image-dir', 'images']
    assert '--image-dir must hold {split}' in refusal(main, data, options, capsys)


def test_broken_links_are_problems_of_their_own(data: Path) -> None:
    """A label that cannot be read is not an image without objects."""
    (data / 'images/train/d.jpg').symlink_to('d.jpg')
    (data / 'labels/train/b.txt').symlink_to('none.txt')
    message = failure(main, data)
    assert 'unreadable images: 1\n  images/train/d.jpg: cannot be read: ' in message
    assert 'unreadable label files: 1\n  labels/train/b.txt: No such file' in message
    main([str(data), '--skip-problems'])
    (image,) = read_split(data, 'train')['images']
    assert image['file_name'] == 'images/train/a.jpg'


POSE = '0 0.5 0.5 0.2 0.4 0.55 0.6'  # one key point in the box [80, 30, 40, 40]


def test_pose_labels_are_boxes(data: Path, capsys: pytest.CaptureFixture) -> None:
    save_text(data / 'labels/train/a.txt', f'{POSE}\n')
    save_text(data / 'labels/val/c.txt', '1 0.5 0.5 0.2 0.4 0 0\n')
    save_text(data / 'data.yaml', f'{YAML}kpt_shape: [1, 2]\n')
    main([str(data)])
    (item,) = read_split(data, 'train')['annotations']
    assert item['bbox'] == [80, 30, 40, 40] and 'segmentation' not in item
    assert 'key points left out, their boxes kept: 1\n  1 a box' in capsys.readouterr().out
    save_text(data / 'data.yaml', YAML)
    main([str(data), '--kpt-shape', '1', '2'])
    assert read_split(data, 'train')['annotations'] == [item]


def test_mixtures_of_poses_and_others_are_refused(data: Path) -> None:
    text = '0 0.5 0.5 0.2 0.4 0.55 0.6 2 0.5 0.5 0\n0 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.5 0.1 0.5 0.9\n'
    save_text(data / 'labels/train/a.txt', text)
    save_text(data / 'labels/val/c.txt', '')
    save_text(data / 'data.yaml', f'{YAML}kpt_shape: [2, 3]\n')
    message = failure(main, data)
    assert message.startswith(
        'lines that are no pose labels: 2\n'
        '  labels/train/a.txt:2: 5 numbers instead of 11: a box and 2 key points of 3 values'
    )
    assert 'a.txt:3: 7 numbers instead of 11' in message


@pytest.mark.parametrize('shape', ['[17]', '17', '[0, 2]', '[17, 4]', '[a, b]'])
def test_broken_shapes_of_key_points(data: Path, shape: str) -> None:
    save_text(data / 'data.yaml', f'{YAML}kpt_shape: {shape}\n')
    assert 'kpt_shape must be the number of key points and 2 or 3' in failure(main, data)


def test_poses_without_a_shape_are_not_taken_for_polygons(
    data: Path, capsys: pytest.CaptureFixture
) -> None:
    """Flags of visibility, or many lines, are sure signs; a few lines are a note."""
    save_text(data / 'labels/val/c.txt', '')
    flagged = '0 0.5 0.5 0.2 0.4 0.9 0.9 2 0 0 0\n'
    for text in (flagged, f'{POSE}\n' * 10):
        save_text(data / 'labels/train/a.txt', text)
        message = failure(main, data)
        assert 'lines that may be poses or polygons: 1\n  labels/train/a.txt:1: ' in message
        assert '--kpt-shape NUMBER VALUES, or by --polygons' in message
    main([str(data), '--polygons'])
    assert len(read_split(data, 'train')['annotations']) == 10
    save_text(data / 'labels/train/a.txt', POSE)
    capsys.readouterr()
    main([str(data)])
    assert 'lines taken for polygons: 1\n  labels/train/a.txt:1: 1 such' in capsys.readouterr().out
    options = ['--classes', 'pit', 'scratch', '--image-dir', 'images/{split}']
    save_text(data / 'data.yaml', 'kpt_shape: [1, 2]')
    main([str(data), *options])
    assert read_split(data, 'train')['annotations'][0]['bbox'] == [80, 30, 40, 40]


def test_images_outside_the_data_root_are_a_note(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_image(tmp_path / 'other/images/d.jpg', SIZE)
    save_text(tmp_path / 'other/labels/d.txt', '0 0.5 0.5 0.2 0.4')
    save_text(data / 'data.yaml', YAML.replace('images/val', '../other/images'))
    main([str(data)])
    printed = capsys.readouterr().out
    assert 'data_check.allow=[image_outside]): 1\n  ../other/images/d.jpg' in printed
