"""Image files: which are there, their sizes as OpenCV loads them, and where missing ones are."""

import os
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
from coco_samples import make_coco, write_coco, write_image
from PIL import Image, ImageFile

from mmdet_salience.datasets.checks.annotation_table import build_annotation_table
from mmdet_salience.datasets.checks.dataset_check import KINDS, Finding, check_annotations
from mmdet_salience.datasets.checks.dataset_repair import repair_annotations
from mmdet_salience.datasets.checks.image_files import find_elsewhere, find_existing
from mmdet_salience.datasets.file_lists import list_below
from mmdet_salience.datasets.image_header import ImageHeader, explain_unreadable, read_header


def _check(content: dict[str, Any], image_root: Path) -> tuple[Finding, ...]:
    """Findings about a content and its images."""
    return check_annotations(build_annotation_table(content, 'a.json'), image_root)


def test_sizes_are_those_that_opencv_loads(tmp_path: Path) -> None:
    content = make_coco(10)
    for image in content['images']:
        image['file_name'] = image['file_name'].replace('png', 'jpg')
    for orientation in range(1, 9):
        write_image(tmp_path / f'{orientation}.jpg', orientation=orientation)
        loaded = cv2.imread(str(tmp_path / f'{orientation}.jpg')).shape[1::-1]
        assert read_header(str(tmp_path / f'{orientation}.jpg')).size == loaded
    write_image(tmp_path / '9.jpg', (65, 48))
    write_image(tmp_path / '10.jpg', (64, 40))
    (finding,) = _check(content, tmp_path)
    assert (finding.kind, finding.count) == ('size_mismatch', 6)
    assert finding.examples[0] == (
        '5.jpg (id 5): 64x48, but the file has 48x64 (turned by its EXIF tag)'
    )
    assert finding.examples[-1] == '10.jpg (id 10): 64x48, but the file has 64x40'


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif', 'webp', 'bmp'])
@pytest.mark.parametrize('orientation', [0, 1, 3, 6])
def test_formats_that_opencv_turns(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f'a.{suffix}'
    write_image(path, orientation=orientation)
    loaded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert read_header(str(path)).size == loaded.shape[1::-1]


@pytest.mark.parametrize('before_pixels', [True, False])
@pytest.mark.parametrize('orientation', [3, 6])
def test_png_files_with_a_tag_anywhere(
    tmp_path: Path, orientation: int, before_pixels: bool
) -> None:
    """Without decoding, which would take memory for what the file only claims."""
    path = tmp_path / 'a.png'
    write_image(path, orientation=orientation)
    content = path.read_bytes()
    place = content.index(b'eXIf') - 4
    chunk = content[place : place + 12 + int.from_bytes(content[place : place + 4], 'big')]
    rest = content.replace(chunk, b'')
    place = rest.index(b'IDAT' if before_pixels else b'IEND') - 4
    path.write_bytes(rest[:place] + chunk + rest[place:])
    loaded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    with mock.patch.object(ImageFile.ImageFile, 'load', side_effect=AssertionError):
        header = read_header(str(path))
    assert header == ImageHeader(loaded.shape[1::-1], orientation == 6)
    assert header.size == ((48, 64) if orientation == 6 else (64, 48))


@pytest.mark.parametrize(
    'start, kind',
    [(b'#?RADIANCE\n', 'Radiance HDR'), (b'#?RGBE\n', 'Radiance HDR'), (b'v/1\x01', 'OpenEXR')],
)
def test_images_of_high_dynamic_range_are_not_decoded(
    tmp_path: Path, start: bytes, kind: str
) -> None:
    """A few bytes of such a file may stand for any number of pixels."""
    path = tmp_path / 'x.png'
    path.write_bytes(start + b'FORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n' + bytes(64))
    with mock.patch('mmdet_salience.datasets.image_header.load_image', side_effect=AssertionError):
        assert read_header(str(path)) is None
        assert kind in explain_unreadable(str(path))


def test_what_only_opencv_reads_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / 'a.pam'
    assert cv2.imwrite(str(path), np.zeros((5, 7, 3), np.uint8))
    with pytest.raises(OSError), Image.open(path):
        pass
    assert read_header(str(path)).size == (7, 5)


def test_huge_images_are_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's guard against decompression bombs does not stop the reading of headers."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    content = make_coco(2)
    write_coco(tmp_path, content)
    assert _check(content, tmp_path) == ()
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize('real', ['images', 'images/train', '../other', '..'])
def test_remedy_names_the_folder_of_the_images(tmp_path: Path, real: str) -> None:
    content = make_coco(3, folder='sub/')
    root = tmp_path / 'set'
    root.mkdir()
    write_coco(root / real, content)
    (root / real / 'sub/3.png').unlink()
    (finding,) = _check(content, root)
    folder = (root / real).resolve()
    assert finding.count == 3
    assert finding.remedy.startswith(f'2 of them are in {folder}: pass --image-dir {folder}')


def test_remedy_where_file_names_have_a_folder_too_much(tmp_path: Path) -> None:
    write_coco(tmp_path / 'images', make_coco(2))
    (finding,) = _check(make_coco(2, folder='old/place/'), tmp_path)
    assert 'without the folders of file_name: write 1.png instead of old/place/1.png' in (
        finding.remedy
    )


def test_remedy_without_a_trace(tmp_path: Path) -> None:
    content = make_coco(1, start=777)
    (finding,) = _check(content, tmp_path)
    assert finding.remedy == KINDS['missing_image'].remedy
    content['images'][0]['file_name'] = 'a\\777.png'
    (finding,) = _check(content, tmp_path)
    assert '/ instead of' in finding.remedy


def test_files_and_links_count_folders_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / 'a/1.png')
    (tmp_path / 'a/2.png').symlink_to(tmp_path / 'a/1.png')
    (tmp_path / 'a/3.png').symlink_to(tmp_path / 'a/none.png')
    (tmp_path / 'a/4.png').mkdir()
    absolute = str(tmp_path / 'a/1.png')
    names = ['a/1.png', 'a/2.png', 'a/3.png', 'a/4.png', './a/../a/1.png', absolute, '1.png']
    expected = [True, True, False, False, True, True, False]
    assert find_existing(tmp_path, names).tolist() == expected
    monkeypatch.chdir(tmp_path / 'a')
    assert find_existing('', ['1.png', '5.png']).tolist() == [True, False]
    assert find_elsewhere(tmp_path, ['none.png']) is None


def test_an_unreadable_entry_costs_only_itself(tmp_path: Path) -> None:
    """A link in a circle, a broken one and an impossible name leave the other images alone."""
    content = make_coco(4)
    write_coco(tmp_path, content)
    for name, target in (('2.png', '2.png'), ('3.png', 'none.png')):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(tmp_path / target)
    (tmp_path / 'circle').symlink_to(tmp_path / 'circle')
    content['images'][3]['file_name'] = 'a\0b/4.png'
    assert find_existing(tmp_path, ['1.png', '2.png', '3.png']).tolist() == [True, False, False]
    (finding,) = _check(content, tmp_path)
    assert (finding.kind, finding.count) == ('missing_image', 3)
    repaired = repair_annotations(content, tmp_path)
    assert [image['id'] for image in repaired.content['images']] == [1]


def test_listing_shows_broken_links_and_warns_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / 'a/1.PNG')
    write_image(tmp_path / 'b/2.png')
    (tmp_path / '3.png').symlink_to(tmp_path / '3.png')
    (tmp_path / '4.png').mkdir()
    os.mkfifo(tmp_path / '5.png')
    (tmp_path / 'c').symlink_to(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in list_below(tmp_path, ('.png',))]
    assert names == ['3.png', 'a/1.PNG', 'b/2.png']
    scan = os.scandir

    def refuse(path: str) -> Any:
        """As ``os.scandir`` for a user who may not list the folder ``b``."""
        if str(path).endswith('b'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.warns(UserWarning, match='left out folder .*/b: Permission denied'):
        assert len(list_below(tmp_path, ('.png',))) == 2
