"""Classes of mask images: what their values and colours mean."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdet_salience.datasets.conversion.coco_writer import ImageSize
from mmdet_salience.datasets.conversion.data_problems import DataError
from mmdet_salience.datasets.conversion.mask_classes import (
    DecodedMask,
    decode_mask,
    load_mask,
    match_codes,
    parse_classes,
)

OIL = (128, 0, 0)
EDGE = (224, 224, 192)


def _decode(path: Path, *classes: str, **options: object) -> DecodedMask:
    """What a mask holds when these classes are given."""
    known = parse_classes(classes, **options)
    return decode_mask(load_mask(path, known.by_color, path.name), known)


def _save(path: Path, pixels: list, dtype: type = np.uint8) -> Path:
    """Save grey values or colours as an image."""
    Image.fromarray(np.array(pixels, dtype)).save(path)
    return path


@pytest.fixture
def palette_mask(tmp_path: Path) -> Path:
    """A palette image of the indices 0 1 2 / 255 1 0."""
    image = Image.new('P', (3, 2))
    image.putdata([0, 1, 2, 255, 1, 0])
    image.putpalette([0, 0, 0, *OIL, 0, 128, 0, *[7] * (252 * 3), *EDGE])
    image.save(tmp_path / 'mask.png')
    return tmp_path / 'mask.png'


def test_palette_by_index(palette_mask: Path) -> None:
    found = _decode(palette_mask, 'oil', 'scratch', ignored=['255'])
    assert found.labels.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert found.unknown == {}


def test_palette_by_color(palette_mask: Path) -> None:
    found = _decode(palette_mask, 'scratch=0,128,0', 'oil=128,0,0', ignored=['224,224,192'])
    assert found.labels.tolist() == [[0, 2, 1], [0, 2, 0]]
    assert found.unknown == {}


def test_unknown_codes_are_counted(palette_mask: Path) -> None:
    found = _decode(palette_mask, 'scratch=2')
    assert found.labels.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert list(found.unknown.items()) == [((1,), 2), ((255,), 1)]
    found = _decode(palette_mask, 'scratch=0,128,0')
    assert list(found.unknown.items()) == [(OIL, 2), (EDGE, 1)]


@pytest.mark.parametrize('suffix', ['png', 'tif', 'bmp'])
def test_colors(tmp_path: Path, suffix: str) -> None:
    path = _save(tmp_path / f'a.{suffix}', [[OIL, (0, 0, 0), (0, 128, 0)]])
    assert _decode(path, 'oil=128,0,0', 'scratch=0,128,0').labels.tolist() == [[1, 0, 2]]


def test_transparency_is_ignored(tmp_path: Path) -> None:
    path = _save(tmp_path / 'a.png', [[(*OIL, 0), (0, 0, 0, 255)]])
    assert _decode(path, 'oil=128,0,0').labels.tolist() == [[1, 0]]
    Image.merge('LA', [Image.new('L', (2, 1), 3), Image.new('L', (2, 1), 9)]).save(path)
    assert _decode(path, 'oil=3').labels.tolist() == [[1, 1]]


@pytest.mark.parametrize('dtype, value', [(np.uint8, 200), (np.uint16, 40000), (np.int32, 70000)])
def test_gray_values(tmp_path: Path, dtype: type, value: int) -> None:
    path = _save(tmp_path / 'a.tif', [[0, value], [value, 5]], dtype)
    found = _decode(path, 'oil=5', f'scratch={value}')
    assert found.labels.tolist() == [[0, 2], [2, 1]]
    assert _decode(path, 'oil=5').unknown == {(value,): 2}


def test_one_bit_mask(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / 'a.png')
    assert _decode(tmp_path / 'a.png', 'oil').labels.tolist() == [[1, 0]]


def test_gray_values_and_colors_match_each_other(tmp_path: Path) -> None:
    gray = _save(tmp_path / 'gray.png', [[0, 255]])
    color = _save(tmp_path / 'color.png', [[(0, 0, 0), (255, 255, 255), OIL]])
    assert _decode(gray, 'oil=255,255,255').labels.tolist() == [[0, 1]]
    found = _decode(color, 'oil=255')
    assert found.labels.tolist() == [[0, 1, 0]]
    assert found.unknown == {OIL: 1}, 'shown as a colour, though classes are values'


def test_tolerance_takes_the_nearest_color() -> None:
    known = parse_classes(['oil=100,0,0', 'scratch=120,0,0'], tolerance=20)
    table = np.array([[109, 0, 0], [111, 20, 0], [140, 0, 20], [141, 0, 0], [15, 15, 15]])
    assert match_codes(table, known).tolist() == [1, 2, 2, -1, 0]


def test_other_background() -> None:
    known = parse_classes(['oil=0'], background='255')
    assert match_codes(np.array([[0], [1], [255]]), known).tolist() == [1, -1, 0]


def test_fractions_are_no_classes(tmp_path: Path) -> None:
    path = _save(tmp_path / 'a.tif', [[0.5, 1.0]], np.float32)
    with pytest.raises(DataError, match='not whole numbers'):
        _decode(path, 'oil')
    assert _decode(_save(path, [[0.0, 1.0]], np.float32), 'oil').labels.tolist() == [[0, 1]]


def test_cut_off_mask(tmp_path: Path) -> None:
    path = _save(tmp_path / 'a.png', np.random.default_rng(0).integers(0, 9, (40, 40)).tolist())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError) as caught:
        _decode(path, 'oil')
    assert (caught.value.kind, caught.value.where) == ('unreadable masks', 'a.png')


def test_mask_is_turned_upright_like_its_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side
    Image.fromarray(np.array([[1, 0], [0, 0], [0, 0]], np.uint8)).save(
        tmp_path / 'a.png', exif=exif
    )
    assert _decode(tmp_path / 'a.png', 'oil').labels.tolist() == [[0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    'entries, options, text',
    [
        (['oil=1,2'], {}, "such as 128,0,0, got '1,2'"),
        (['oil=red'], {}, "got 'red'"),
        (['oil=300,0,0'], {}, 'from 0 to 255'),
        (['oil=1', 'scratch'], {}, "not 'scratch'"),
        (['oil=1', 'scratch=0,128,0'], {}, 'all values or all colours'),
        (['oil=1'], {'background': '0,0,0'}, 'all values or all colours'),
        (['oil=1'], {'ignored': ['0,0,9']}, 'all values or all colours'),
        (['oil=1', 'scratch=1'], {}, '1 has two meanings'),
        (['oil=0,0,0'], {}, '0,0,0 has two meanings'),
        (['oil=1', 'oil=2'], {}, 'different names'),
        (['=1'], {}, 'different names'),
        ([], {}, 'different names'),
        (['oil=1'], {'tolerance': 3}, 'tolerance goes with colours'),
    ],
)
def test_wrong_classes(entries: list[str], options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_classes(entries, **options)


def test_a_mask_of_another_size_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / 'a.png', [[0, 1, 2]])
    assert load_mask(path, False, 'a.png', ImageSize(3, 1)).rows.shape == (1, 3)
    with pytest.raises(DataError, match='the mask is 3x1, the image 1x3'):
        load_mask(path, False, 'a.png', ImageSize(1, 3))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1)
    with pytest.raises(DataError, match='exceeds limit') as caught:
        load_mask(path, False, 'a.png', ImageSize(3, 1))
    assert caught.value.kind == 'unreadable masks'
    monkeypatch.undo()
    monkeypatch.setattr(Image.Image, 'load', lambda *_: pytest.fail('it was decoded'))
    with pytest.raises(DataError, match='the mask is 3x1, the image 3x2'):
        load_mask(path, False, 'a.png', ImageSize(3, 2))
