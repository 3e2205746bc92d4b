"""The converter of class masks, on small datasets that the tests write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from converter_runs import (
    CONVERTERS,
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

main = load_converter('masks2coco').main

OIL, SCRATCH, EDGE = (128, 0, 0), (0, 128, 0), (224, 224, 192)
COLORS = ('--classes', 'oil=128,0,0', 'scratch=0,128,0')
FOLDERS = ('--image-dir', 'images', '--mask-dir', 'masks', '--split-ratio', '1:1')
SIZE = (20, 12)


def _class_mask(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Values (H, W) of boxes (value, x, y, width, height), later ones over earlier ones."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    for value, x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = value
    return mask


def _save_palette(path: Path, mask: np.ndarray) -> None:
    """Write a palette image in colours of PASCAL VOC: 1 oil, 2 scratch, 255 edge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask).convert('L')
    image.putpalette([0, 0, 0, *OIL, *SCRATCH, *[9] * (252 * 3), *EDGE])
    image.save(path)


def _save_colors(path: Path, mask: np.ndarray) -> None:
    """Write an RGB image of the values 0 to 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([(0, 0, 0), OIL, SCRATCH], np.uint8)[mask]).save(path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """PASCAL VOC's layout: oil with an edge and a scratch, an empty mask, and a test image."""
    root = tmp_path / 'voc'
    masks = {
        'a': _class_mask((255, 1, 1, 8, 6), (1, 2, 2, 6, 4), (2, 12, 0, 8, 1), (2, 15, 3, 1, 1)),
        'b': _class_mask(),
        'c': _class_mask((1, 0, 0, 20, 12)),
    }
    for name, mask in masks.items():
        save_image(root / f'JPEGImages/{name}.jpg', SIZE)
        _save_palette(root / f'SegmentationClass/{name}.png', mask)
    save_text(root / 'ImageSets/Segmentation/train.txt', 'a\nb\n')
    save_text(root / 'ImageSets/Segmentation/test.txt', 'c\n')
    return root


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of four images and one of their masks in colour, without splits."""
    root = tmp_path / 'pairs'
    for number in range(4):
        save_image(root / f'images/part{number}.png', SIZE)
        _save_colors(root / f'masks/part{number}.png', _class_mask((1 + number % 2, 3, 2, 5, 4)))
    return root


TRAIN_BOXES = [('oil', [2, 2, 6, 4]), ('scratch', [12, 0, 8, 1]), ('scratch', [15, 3, 1, 1])]


@pytest.mark.parametrize(
    'options',
    [
        ('--classes', 'oil', 'scratch', '--ignore-color', '255'),
        ('--classes', 'oil=1', 'scratch=2', '--ignore-color', '255'),
        (*COLORS, '--ignore-color', '224,224,192'),
    ],
)
def test_palette_masks(voc: Path, capsys: pytest.CaptureFixture, options: tuple[str, ...]) -> None:
    main([str(voc), *options])
    train = read_split(voc, 'train')
    assert train['categories'] == [{'id': 1, 'name': 'oil'}, {'id': 2, 'name': 'scratch'}]
    assert boxes_of(train, 'JPEGImages/a.jpg') == TRAIN_BOXES
    assert [a['area'] for a in train['annotations']] == [24, 8, 1]
    assert train['images'][1] == {
        'id': 2,
        'file_name': 'JPEGImages/b.jpg',
        'width': 20,
        'height': 12,
    }
    assert boxes_of(read_split(voc, 'test'), 'JPEGImages/c.jpg') == [('oil', [0, 0, 20, 12])]
    printed = capsys.readouterr().out
    assert 'empty masks, kept as images without objects: 1\n  SegmentationClass/b.png' in printed
    assert table_row(printed, 'train') == {
        'split': 'train',
        'images': '2',
        'empty': '1',
        'oil': '1',
        'scratch': '2',
        'boxes': '3',
        'clipped': '0',
        'too small': '0',
    }
    assert f'check_dataset.py {voc}/annotations/train.json --image-dir {voc}' in printed


def test_polygons_hold_the_pixels(voc: Path) -> None:
    main([str(voc), '--classes', 'oil', 'scratch', '--ignore-color', '255'])
    coco = COCO(str(voc / 'annotations/train.json'))
    mask = np.asarray(Image.open(voc / 'SegmentationClass/a.png'))
    for label in (1, 2):
        filled = sum(coco.annToMask(a) for a in coco.anns.values() if a['category_id'] == label)
        assert np.array_equal(filled, mask == label)


def test_mmdet_reads_the_files(voc: Path) -> None:
    """A data set with the data root as its only path finds images, boxes and polygons."""
    from mmdet.datasets import CocoDataset

    main([str(voc), '--classes', 'oil', 'scratch', '--ignore-color', '255'])
    data = CocoDataset(
        data_root=f'{voc}/',
        ann_file='annotations/train.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=('oil', 'scratch')),
        pipeline=[],
    )
    assert len(data) == 2
    info = data.get_data_info(0)
    assert Path(info['img_path']).is_file()
    assert [i['bbox'] for i in info['instances']] == [[2, 2, 8, 6], [12, 0, 20, 1], [15, 3, 16, 4]]
    assert all(len(i['mask'][0]) >= 8 for i in info['instances'])


def test_min_area_and_merge_distance(voc: Path, capsys: pytest.CaptureFixture) -> None:
    """The scratches have two rows between them."""
    options = ['--classes', 'oil', 'scratch', '--ignore-color', '255', '--splits', 'train']
    main([str(voc), *options, '--min-area', '2'])
    assert boxes_of(read_split(voc, 'train'), 'JPEGImages/a.jpg') == TRAIN_BOXES[:2]
    assert table_row(capsys.readouterr().out, 'train')['too small'] == '1'
    main([str(voc), *options, '--merge-distance', '1'])
    assert len(read_split(voc, 'train')['annotations']) == 3
    main([str(voc), *options, '--min-area', '9', '--merge-distance', '2'])
    oil, scratch = read_split(voc, 'train')['annotations']
    assert (scratch['bbox'], scratch['area']) == ([12, 0, 8, 4], 9)
    assert len(scratch['segmentation']) == 2
    assert oil['area'] == 24


def test_image_and_mask_folders(pairs: Path) -> None:
    main([str(pairs), *FOLDERS, *COLORS])
    contents = [read_split(pairs, split) for split in ('train', 'val')]
    names = [i['file_name'] for content in contents for i in content['images']]
    assert sorted(names) == [f'images/part{n}.png' for n in range(4)]
    for content in contents:
        for image in content['images']:
            number = int(image['file_name'][-5])
            name = ('oil', 'scratch')[number % 2]
            assert boxes_of(content, image['file_name']) == [(name, [3, 2, 5, 4])]


def test_split_in_the_folders_and_a_mask_suffix(tmp_path: Path) -> None:
    """Images and masks in one folder for each split; 16-bit masks."""
    for split in ('train', 'test'):
        save_image(tmp_path / f'{split}/a.png', SIZE)
        mask = _class_mask((1, 0, 0, 3, 3)).astype(np.uint16) * 1000
        Image.fromarray(mask).save(tmp_path / f'{split}/a_mask.TIF')
    options = ['--image-dir', '{split}', '--mask-dir', '{split}', '--classes', 'oil=1000']
    for suffix in ('_mask', '_mask.tif'):
        main([str(tmp_path), *options, '--mask-suffix', suffix])
        test = read_split(tmp_path, 'test')
        assert boxes_of(test, 'test/a.png') == [('oil', [0, 0, 3, 3])]
    assert [i['file_name'] for i in test['images']] == ['test/a.png']


def test_jpeg_masks(tmp_path: Path) -> None:
    """The colours of a JPEG are smeared; a tolerance puts them right."""
    for name in 'ab':
        save_image(tmp_path / f'images/{name}.jpg', SIZE)
        _save_colors(tmp_path / f'masks/{name}.png', _class_mask((1, 3, 2, 9, 7)))
        Image.open(tmp_path / f'masks/{name}.png').save(
            tmp_path / f'masks/{name}.jpg', quality=90, subsampling=0
        )
        (tmp_path / f'masks/{name}.png').unlink()
    assert 'unknown colours' in failure(main, tmp_path, *FOLDERS, *COLORS)
    main([str(tmp_path), *FOLDERS, *COLORS, '--color-tolerance', '40'])
    assert [a['bbox'] for a in read_split(tmp_path, 'val')['annotations']] == [[3, 2, 9, 7]]


def test_unknown_colors(voc: Path) -> None:
    message = failure(main, voc, '--classes', 'scratch=2')
    assert 'SegmentationClass/a.png: 1 (24 pixels); 255 (24 pixels)' in message
    assert 'SegmentationClass/c.png: 1 (240 pixels)' in message
    assert 'error: 2 problems, nothing written' in message
    assert 'or ignore by --ignore-color' in message
    message = failure(main, voc, '--classes', 'scratch=0,128,0')
    assert 'SegmentationClass/a.png: 128,0,0 (24 pixels); 224,224,192 (24 pixels)' in message


def test_many_unknown_colors_are_cut(voc: Path) -> None:
    _save_palette(voc / 'SegmentationClass/b.png', np.arange(240, dtype=np.uint8).reshape(12, 20))
    message = failure(main, voc, '--classes', 'oil', 'scratch', '--ignore-color', '255')
    assert (
        '3 (1 pixels); 4 (1 pixels); 5 (1 pixels); 6 (1 pixels); 7 (1 pixels); 232 others'
        in message
    )


def test_files_that_do_not_fit(voc: Path, capsys: pytest.CaptureFixture) -> None:
    """All kinds at once; what is left can be written without them."""
    options = ['--classes', 'oil', 'scratch', '--ignore-color', '255']
    for name in ('d', 'e', 'f', 'g'):
        save_image(voc / f'JPEGImages/{name}.jpg', (12, 20))
        _save_palette(voc / f'SegmentationClass/{name}.png', _class_mask())
    (voc / 'SegmentationClass/d.png').unlink()
    (voc / 'SegmentationClass/f.png').write_bytes(b'\x89PNG')
    (voc / 'JPEGImages/g.jpg').write_bytes(b'')
    save_text(voc / 'ImageSets/Segmentation/train.txt', 'a\nb\nd\ne\nf\ng\nh\nb\n')
    message = failure(main, voc, *options)
    for expected in (
        'missing images: 1\n  h: listed in ImageSets/Segmentation/train.txt\n',
        'images without a mask: 1\n  d\n',
        'masks of another size than the image: 1\n'
        '  SegmentationClass/e.png: the mask is 20x12, the image 12x20\n',
        'unreadable masks: 1\n  SegmentationClass/f.png: ',
        'unreadable images: 1\n  JPEGImages/g.jpg: the file is empty',
        'images listed more than once: 1\n  ImageSets/Segmentation/train.txt: b\n',
        'error: 6 problems',
    ):
        assert expected in message
    main([str(voc), *options, '--skip-problems'])
    train = read_split(voc, 'train')
    assert [i['file_name'] for i in train['images']] == ['JPEGImages/a.jpg', 'JPEGImages/b.jpg']
    assert boxes_of(train, 'JPEGImages/a.jpg') == TRAIN_BOXES
    assert 'left out because of 6 problems' in capsys.readouterr().out


def test_problems_keep_older_files(voc: Path) -> None:
    """Neither problems nor a folder that is in the way change what was written before."""
    options = ['--classes', 'oil', 'scratch', '--ignore-color', '255']
    main([str(voc), *options])
    before = (voc / 'annotations/train.json').read_text()
    (voc / 'JPEGImages/c.jpg').unlink()
    failure(main, voc, '--classes', 'oil', 'scratch')
    assert (voc / 'annotations/train.json').read_text() == before
    assert json.loads(before)['images']


@pytest.mark.parametrize(
    'options, text',
    [
        (['--classes', 'oil=1', 'scratch=0,128,0'], 'all values or all colours'),
        (['--classes', 'oil=0'], '0 has two meanings'),
        (['--classes', 'oil', '--color-tolerance', '3'], 'a tolerance goes with colours'),
        (['--classes', 'oil', '--min-area', '-1'], '--min-area must not be negative'),
        (['--classes', 'oil', '--merge-distance', '-1'], '--merge-distance must not be'),
        (['--image-dir', 'images'], '--classes'),
    ],
)
def test_wrong_options(
    voc: Path, capsys: pytest.CaptureFixture, options: list[str], text: str
) -> None:
    assert text in refusal(main, voc, options, capsys)


def test_runs_from_any_folder(voc: Path, tmp_path: Path) -> None:
    """As a script, without an installation, with classes from a file."""
    save_text(tmp_path / 'classes.txt', 'oil=1\nscratch=2\n')
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    script = str(CONVERTERS / 'masks2coco.py')
    options = ['--classes', 'classes.txt', '--ignore-color', '255']
    run = subprocess.run(
        [sys.executable, script, 'voc', *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert 'written to voc/annotations' in run.stdout
    assert len(read_split(voc, 'train')['annotations']) == 3
