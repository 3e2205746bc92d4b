"""The checked loader: good images as MMCV's, damaged ones by name, skipped ones counted."""

import io
import os
import struct
import time
import zlib
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmdet_salience.datasets.fault_record import Fault, FaultRecord
from mmdet_salience.datasets.image_content import (
    ImageError,
    decode_image,
    is_cut_jpeg,
    load_image,
)
from mmdet_salience.datasets.image_header import (
    decode_header,
    explain_unreadable,
    read_header,
    read_headers,
)
from mmdet_salience.datasets.transforms import FaultPolicy, LoadCheckedImage

WIDTH, HEIGHT = 48, 32
ORIENTATION = 0x0112


def picture() -> np.ndarray:
    """A picture with structure everywhere, (32, 48, 3)."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    """A picture as the content of a file."""
    buffer = io.BytesIO()
    (image or Image.fromarray(picture())).save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG file whose EXIF block holds a JPEG file of its own, as those of cameras."""
    block = b'Exif\0\0' + encoded('JPEG', quality=30)
    marker = b'\xff\xe1' + struct.pack('>H', len(block) + 2)
    return b'\xff\xd8' + marker + block + encoded('JPEG')[2:]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file with a right header of any size, and hardly any pixels."""
    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    parts = [(b'IHDR', header), (b'IDAT', zlib.compress(bytes(9))), (b'IEND', b'')]
    chunks = [
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        for name, data in parts
    ]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def flipped(content: bytes) -> bytes:
    """The content with one bit in the middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


JPEG = encoded('JPEG')
PNG = encoded('PNG')
DAMAGED = {
    'empty.jpg': (b'', 'empty'),
    'text.jpg': (b'<html>not found</html>', 'not a readable image'),
    'half.jpg': (JPEG[: len(JPEG) // 2], 'cut off'),
    'header.jpg': (JPEG[:40], 'cut off'),
    'last-byte.jpg': (JPEG[:-1], 'cut off'),
    'zeros.jpg': (JPEG[:-300] + bytes(300), 'cut off'),
    'progressive.jpg': (encoded('JPEG', progressive=True)[:-100], 'cut off'),
    'thumbnail.jpg': (with_thumbnail()[:-100], 'cut off'),
    'half.png': (PNG[: len(PNG) // 2], 'not a readable image'),
    'flipped.png': (flipped(PNG), 'not a readable image'),
    'half.bmp': (encoded('BMP')[:-100], 'not a readable image'),
    'half.tif': (encoded('TIFF')[:-100], 'not a readable image'),
    'half.webp': (encoded('WEBP')[:-100], 'not a readable image'),
    'float.tif': (encoded('TIFF', Image.new('F', (9, 9))), 'not a readable image'),
    'huge.png': (png_of_size(40000, 40000), 'larger than OpenCV reads'),
}


@pytest.mark.parametrize('name', DAMAGED)
def test_damaged_image_is_named(tmp_path: Path, name: str) -> None:
    content, reason = DAMAGED[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        LoadCheckedImage().transform(dict(img_path=str(path)))
    assert caught.value.path == str(path) and str(caught.value).startswith(str(path))


def good_images() -> dict[str, bytes]:
    """Good images of all kinds by name of the file."""
    image, grey = Image.fromarray(picture()), Image.fromarray(picture()[..., 0])
    deep = Image.fromarray((np.arange(HEIGHT * WIDTH, dtype=np.uint16) * 40).reshape(HEIGHT, WIDTH))
    clear = Image.merge('RGBA', (*image.split(), Image.new('L', image.size, 0)))
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    return {
        'plain.jpg': JPEG,
        'progressive.jpg': encoded('JPEG', progressive=True),
        'thumbnail.jpg': with_thumbnail(),
        'appended.jpg': JPEG + bytes(range(256)) * 9,
        'grey.jpg': encoded('JPEG', grey),
        'turned.jpg': encoded('JPEG', exif=turned),
        'plain.png': PNG,
        'appended.png': PNG + bytes(99),
        'grey.png': encoded('PNG', grey),
        'deep.png': encoded('PNG', deep),
        'clear.png': encoded('PNG', clear),
        'palette.png': encoded('PNG', image.convert('P')),
        'plain.bmp': encoded('BMP'),
        'deep.tif': encoded('TIFF', deep),
        'plain.webp': encoded('WEBP'),
    }


GOOD = good_images()


@pytest.mark.parametrize('name', GOOD)
def test_good_image_is_that_of_mmcv(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(GOOD[name])
    plain = LoadImageFromFile().transform(dict(img_path=str(path)))
    checked = LoadCheckedImage().transform(dict(img_path=str(path)))
    assert checked.keys() == plain.keys()
    np.testing.assert_array_equal(checked['img'], plain['img'])
    assert checked['img'].dtype == np.uint8 and checked['img'].ndim == 3
    assert checked['img_shape'] == checked['ori_shape'] == plain['img_shape']
    header = read_header(str(path))
    assert header.size == checked['img_shape'][::-1], 'the check before training agrees'
    assert header.is_deep == name.startswith('deep')


def decode(name: str) -> np.ndarray:
    """Pixels of one of the good images."""
    return decode_image(GOOD[name])


def test_what_becomes_of_pixel_formats() -> None:
    deep = (np.arange(HEIGHT * WIDTH) * 40).reshape(HEIGHT, WIDTH)
    for name in ('deep.png', 'deep.tif'):
        np.testing.assert_array_equal(decode(name), np.dstack([deep // 256] * 3), err_msg=name)
    grey = decode('grey.png')
    assert (grey == grey[..., :1]).all()
    np.testing.assert_array_equal(grey[..., 0], picture()[..., 0])
    np.testing.assert_array_equal(decode('clear.png'), decode('plain.png'), 'alpha is dropped')
    assert decode('turned.jpg').shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(decode('turned.jpg'), np.rot90(decode('plain.jpg'), -1))


@pytest.mark.parametrize('share', np.linspace(0, 1, 23)[1:-1])
@pytest.mark.parametrize('name', ['plain.jpg', 'progressive.jpg', 'thumbnail.jpg'])
def test_jpeg_is_cut_wherever_it_ends(name: str, share: float) -> None:
    content = GOOD[name]
    assert is_cut_jpeg(content[: int(len(content) * share)])
    assert not is_cut_jpeg(content)


@pytest.mark.parametrize('name', DAMAGED)
def test_check_before_training_knows_damaged_ends(tmp_path: Path, name: str) -> None:
    content, reason = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    needs_pixels = name in ('flipped.png', 'half.bmp', 'half.tif')
    if name != 'half.webp':  # versions of Pillow differ
        assert (read_header(str(tmp_path / name)) is not None) == needs_pixels
    assert decode_header(str(tmp_path / name)) is None
    assert reason in explain_unreadable(str(tmp_path / name))


def odd_paths(root: Path) -> dict[str, Path]:
    """Paths that are no files, by what is said of them."""
    (root / 'folder.jpg').mkdir()
    os.mkfifo(root / 'pipe.jpg')
    return {
        'it is a folder': root / 'folder.jpg',
        'it is no regular file': root / 'pipe.jpg',
        'there is no such file': root / 'missing.jpg',
        'cannot be read: Not a directory': root / 'pipe.jpg' / 'deeper.jpg',
        'cannot be read: File name too long': root / ('x' * 300),
    }


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no pipes')
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    for reason, path in odd_paths(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            load_image(str(path))
        assert str(caught.value) == f'{path}: {reason}'
        assert read_header(str(path)) is None


def test_lack_of_memory_is_not_the_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        """Fail as OpenCV does."""
        error = cv2.error('no memory')
        error.code, error.err = cv2.Error.StsNoMem, 'Failed to allocate 9 bytes'
        raise error

    monkeypatch.setattr('mmcv.imfrombytes', fail)
    with pytest.raises(MemoryError, match='Failed to allocate'):
        decode_image(PNG)


def test_other_size_than_annotated(tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    path.write_bytes(PNG)
    right = dict(img_path=str(path), width=WIDTH, height=HEIGHT)
    assert LoadCheckedImage().transform(dict(right))['img'].shape == (HEIGHT, WIDTH, 3)
    wrong = dict(right, width=HEIGHT, height=WIDTH)
    with pytest.raises(ImageError, match='32x48 in the annotations, but 48x32 in the file'):
        LoadCheckedImage().transform(dict(wrong))
    LoadCheckedImage(check_size=False).transform(dict(wrong))
    LoadCheckedImage().transform(dict(right, width=0))


def test_loader_is_registered_and_takes_mmcvs_arguments(tmp_path: Path) -> None:
    (tmp_path / 'a.png').write_bytes(PNG)
    for options in (
        dict(to_float32=True),
        dict(color_type='grayscale'),
        dict(imdecode_backend='pillow'),
    ):
        info = dict(img_path=str(tmp_path / 'a.png'))
        checked = TRANSFORMS.build(dict(type='mmdet.LoadCheckedImage', **options))(dict(info))
        plain = LoadImageFromFile(**options).transform(dict(info))
        assert checked['img'].dtype == plain['img'].dtype
        np.testing.assert_array_equal(checked['img'], plain['img'])
    (tmp_path / 'a.png').write_bytes(PNG[:99])
    with pytest.raises(ImageError, match=r'a\.png'):
        LoadCheckedImage(imdecode_backend='pillow').transform(dict(info))


def skipping(root: Path, limit: int = 9, blank: bool = False) -> LoadCheckedImage:
    """A loader that skips images."""
    record = FaultRecord(str(root / 'list.jsonl'))
    return LoadCheckedImage(policy=FaultPolicy(record, 'train', 20, limit, blank))


def write_broken(root: Path, number: int) -> list[dict]:
    """Write broken images; what a data set says of them."""
    for index in range(number):
        (root / f'{index}.jpg').write_bytes(JPEG[:99])
    return [
        dict(img_path=str(root / f'{index}.jpg'), width=WIDTH, height=HEIGHT)
        for index in range(number)
    ]


def test_skipped_images_are_listed_once(tmp_path: Path) -> None:
    infos = write_broken(tmp_path, 3)
    workers = [skipping(tmp_path) for _ in range(2)]
    for loader in workers * 3:
        assert [loader.transform(dict(info)) for info in infos] == [None] * 3
    faults = workers[0].policy.record.read()
    assert [Path(fault.path).name for fault in faults] == ['0.jpg', '1.jpg', '2.jpg']
    assert all('cut off' in fault.reason for fault in faults)
    assert len((tmp_path / 'list.jsonl').read_text().splitlines()) == 3


def test_blank_image_has_the_annotated_size(tmp_path: Path) -> None:
    info = write_broken(tmp_path, 1)[0]
    results = skipping(tmp_path, blank=True).transform(dict(info, width=7, height=5))
    assert results['img'].shape == (5, 7, 3) and np.ptp(results['img']) == 0
    assert results['ori_shape'] == results['img_shape'] == (5, 7)
    with pytest.raises(ImageError, match=r'0\.jpg'):
        skipping(tmp_path, blank=True).transform(dict(img_path=info['img_path']))


def test_too_many_skipped_images_end_the_run(tmp_path: Path) -> None:
    infos = write_broken(tmp_path, 4)
    loader = skipping(tmp_path, limit=2)
    for _ in range(2):
        assert [loader.transform(dict(info)) for info in infos[:2]] == [None] * 2
    with pytest.raises(ImageError) as caught:
        loader.transform(dict(infos[2]))
    message = str(caught.value)
    assert message.startswith('3 of 20 images of train cannot be used')
    assert '2.jpg: cut off' in message and 'list.jsonl' in message and '--repair' in message


def test_stop_at_the_first_image_every_time(tmp_path: Path) -> None:
    info = write_broken(tmp_path, 1)[0]
    loader = skipping(tmp_path, limit=0)
    for _ in range(2):
        with pytest.raises(ImageError, match='1 of 20 images'):
            loader.transform(dict(info))


def test_record_of_many_processes(tmp_path: Path) -> None:
    path = str(tmp_path / 'list.jsonl')
    with ThreadPool(4) as pool:  # a record each, as processes have
        pool.map(
            lambda worker: [
                FaultRecord(path).add(Fault('train', f'{i}.jpg', f'by {worker}')) for i in range(50)
            ],
            range(4),
        )
    FaultRecord(path).add(Fault('val', '0.jpg', 'ä\n"'))
    record = FaultRecord(path)
    assert sorted(fault.path for fault in record.read('train')) == sorted(
        f'{i}.jpg' for i in range(50)
    )
    assert record.read('val') == [Fault('val', '0.jpg', 'ä\n"')]
    assert len(record.read()) == 51
    with open(path, 'a') as file:
        file.write('["train", "half')
    assert len(record.read()) == 51, 'a line in the making is left alone'
    assert FaultRecord(str(tmp_path / 'none')).read() == []


def refuse_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any attempt to decode an image fail the test."""

    def fail(*_: object, **__: object) -> None:
        """Fail."""
        raise AssertionError('an image was decoded')

    monkeypatch.setattr('mmcv.imfrombytes', fail)
    monkeypatch.setattr(Image.Image, 'load', fail)


@pytest.mark.filterwarnings('error')
def test_headers_of_large_images_are_read_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole ones, cut ones and those that Pillow refuses, alone and by many threads."""
    large, broken = png_of_size(30000, 30000), png_of_size(30000, 20000)
    text = b'zTXt' + b'a\0\0' + zlib.compress(bytes(2**26))  # more than Pillow unpacks
    chunk = struct.pack('>I', len(text) - 4) + text + struct.pack('>I', zlib.crc32(text))
    broken = broken[:33] + chunk + broken[33:]
    for name, content in (('a', large), ('b', large[:-12]), ('c', broken)):
        (tmp_path / f'{name}.png').write_bytes(content)
    with pytest.raises(ValueError, match='too large'), Image.open(tmp_path / 'c.png'):
        pass
    refuse_decoding(monkeypatch)
    limit = Image.MAX_IMAGE_PIXELS
    paths = [str(tmp_path / f'{name}.png') for name in 'abc']
    sizes = [header and header.size for header in read_headers(paths * 20)]
    assert sizes == [(30000, 30000), None, (30000, 20000)] * 20
    assert [header and header.size for header in map(read_header, paths)] == sizes[:3]
    assert explain_unreadable(paths[1]) == (
        'not a readable image: the end of the PNG data is missing'
    )
    assert limit == Image.MAX_IMAGE_PIXELS


def test_one_large_image_is_decoded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmdet_salience.datasets.image_header.LARGEST_DECODED', 9)
    busy: list[int] = []

    def load(path: str) -> None:
        """Note how many are decoded at the same time."""
        busy.append(1)
        assert sum(busy) == 1, path
        time.sleep(0.01)
        busy.append(-1)

    monkeypatch.setattr('mmdet_salience.datasets.image_header.load_image', load)
    paths = [str(tmp_path / f'{number}.png') for number in range(40)]
    for path in paths:
        Path(path).write_bytes(PNG)
    headers = read_headers(paths, pixels=True)
    assert len(busy) == 80 and all(header.size == (WIDTH, HEIGHT) for header in headers)
