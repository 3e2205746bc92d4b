"""Cutting images into tiles: places, boxes and files, by pencil."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_samples import make_coco, write_coco
from helpers import ROOT

sys.path.insert(0, str(ROOT / 'tools' / 'dataset_converters'))

import tile_coco


def test_tiles_cover_the_image() -> None:
    assert tile_coco.tile_starts(640, 128, 0) == [0, 128, 256, 384, 512]
    assert tile_coco.tile_starts(100, 128, 0) == [0]
    assert tile_coco.tile_starts(300, 128, 0) == [0, 86, 172]
    starts = tile_coco.tile_starts(1000, 256, 64)
    assert starts[0] == 0 and starts[-1] == 1000 - 256
    assert max(np.diff(starts)) <= 256 - 64


def test_boxes_of_a_tile() -> None:
    boxes = np.array([[10.0, 10, 30, 20], [56, 0, 72, 8], [60, 0, 76, 8], [64, 0, 70, 9]])
    cut = tile_coco.cut_objects(boxes, (0, 0, 64, 64), min_visible=0.5)
    np.testing.assert_array_equal(cut[0], boxes[0])
    np.testing.assert_array_equal(cut[1], (56, 0, 64, 8))  # half of it
    assert np.isnan(cut[2]).all()  # a quarter
    assert np.isnan(cut[3]).all()  # touches the border
    right = tile_coco.cut_objects(boxes, (64, 0, 128, 64), min_visible=0.5)
    np.testing.assert_array_equal(right[2], (0, 0, 12, 8))


def run(tmp_path: Path, *options: str) -> dict:
    """Cut two images of 64 x 48 with objects at (4, 6, 20, 10) and (30, 20, 30, 25)."""
    ann_file = write_coco(tmp_path / 'data', make_coco(2), 'all.json')
    argv = [str(ann_file), str(tmp_path / 'data'), str(tmp_path / 'tiles'), '--size', '32']
    tile_coco.main([*argv, *options])
    return json.loads((tmp_path / 'tiles' / 'annotations' / 'train.json').read_text())


def test_files(tmp_path: Path) -> None:
    """48 rows give two overlapping tiles; the pixels are those of the annotations."""
    content = run(tmp_path)
    # The crack is whole at the top left; of the pore (30..60 x 20..45) the upper tile (0..32)
    # shows 12 of 25 rows, the lower one (16..48) all, each with 28 of 30 columns.
    assert [image['file_name'] for image in content['images']] == [
        '1_0_0.png',
        '1_32_16.png',
        '2_0_0.png',
        '2_32_16.png',
    ]
    boxes = [item['bbox'] for item in content['annotations'][:2]]
    assert boxes == [[4, 6, 20, 10], [0, 4, 28, 25]]
    assert [item['category_id'] for item in content['annotations']] == [1, 2, 1, 2]
    for image in content['images']:
        pixels = cv2.imread(str(tmp_path / 'tiles' / 'train' / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3) == (32, 32, 3)


def test_max_images_and_split(tmp_path: Path) -> None:
    assert len(run(tmp_path, '--max-images', '1')['images']) == 2


def test_wrong_input_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ann_file = write_coco(tmp_path / 'data', make_coco(1), 'all.json')
    (tmp_path / 'data' / '1.png').unlink()
    out = str(tmp_path / 'tiles')
    strange = make_coco(1)
    strange['annotations'][0]['category_id'] = 9
    broken = write_coco(tmp_path / 'broken', strange, 'all.json')
    for argv, message in (
        ([str(ann_file), str(tmp_path / 'data'), out], '1.png: there is no such file'),
        ([str(broken), str(tmp_path / 'broken'), out], 'all.json lacks 9'),
        (['none.json', 'data', out], 'none.json'),
        ([str(ann_file), 'data', out, '--size', '32', '--overlap', '32'], '--overlap'),
    ):
        with pytest.raises(SystemExit) as stop:
            tile_coco.main(argv)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'tiles' / 'annotations').exists()


def test_tiles_of_different_images_never_meet(tmp_path: Path) -> None:
    """Folders, suffixes and case that fall away in a tile's name; pixels tell whose tile it is."""
    names = ['a/b.png', 'a/b.jpg', 'a_b.png', 'A_B.png', 'a_b-2.png']
    content = make_coco(len(names))
    for number, (image, name) in enumerate(zip(content['images'], names, strict=True)):
        image['file_name'] = name
        (tmp_path / 'data' / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((image['height'], image['width'], 3), 40 * number, np.uint8)
        assert cv2.imwrite(str(tmp_path / 'data' / name), pixels)
    (tmp_path / 'data/all.json').write_text(json.dumps(content))
    out = tmp_path / 'tiles'
    tile_coco.main([str(tmp_path / 'data/all.json'), str(tmp_path / 'data'), str(out)])
    tiles = json.loads((out / 'annotations/train.json').read_text())['images']
    written = [image['file_name'] for image in tiles]
    assert len({name.lower() for name in written}) == len(names)
    assert written[0] == 'a_b_0_0.png' and written[4] == 'a_b-2_0_0.png'
    means = [cv2.imread(str(out / 'train' / name)).mean() for name in written]
    np.testing.assert_allclose(means, [0, 40, 80, 120, 160], atol=1)


def test_images_outside_are_refused_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = make_coco(1, folder='../')
    ann_file = write_coco(tmp_path / 'data/inner', content, 'all.json')
    argv = [str(ann_file), str(tmp_path / 'data/inner'), str(tmp_path / 'tiles')]
    with pytest.raises(SystemExit):
        tile_coco.main(argv)
    assert 'lead out of' in capsys.readouterr().err
    assert not (tmp_path / 'tiles').exists()
    tile_coco.main([*argv, '--allow-outside'])
    assert [path.name for path in (tmp_path / 'tiles/train').iterdir()] == ['1_0_0.png']
