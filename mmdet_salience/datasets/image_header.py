"""Sizes of images from the headers of their files, as OpenCV will load them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing.pool import ThreadPool
from threading import Lock
from typing import IO, Any, NamedTuple

from PIL import Image

from .image_content import (
    CUT_OFF,
    JPEG_END,
    MAX_PIXELS,
    MAX_SIDE,
    TOO_LARGE,
    ImageError,
    is_cut_jpeg,
    load_image,
)

Size = tuple[int, int]

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Passes items on and shows how many of the given number have passed."""

ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that exchange width and height
TURNING_FORMATS = ('JPEG', 'MPO', 'PNG', 'TIFF')  # where OpenCV heeds the tag
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS = 256, 257, 258  # tags
WIDE_MODES = ('F', 'I')  # 32 bits a pixel, which OpenCV reads from no TIFF file
PNG_START, PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND'
PNG_EXIF, PNG_SUM = b'eXIf', 4  # a chunk, and the size of the checksum behind each
PNG_DEPTH = 24  # place of the number of bits, behind width and height
LARGEST_DECODED = 2**26  # pixels of an image that is decoded where Pillow fails at its header

CUT_PNG = 'not a readable image: the end of the PNG data is missing'
WIDE_TIFF = 'not a readable image: OpenCV reads no TIFF file of 32 bits a channel'

# Kinds that Pillow does not know, a few bytes of which OpenCV decodes to any number of pixels.
HIGH_RANGE_STARTS = {
    b'#?RADIANCE': 'Radiance HDR',
    b'#?RGBE': 'Radiance HDR',
    b'\x76\x2f\x31\x01': 'OpenEXR',
}
HIGH_RANGE = 'an image of high dynamic range ({}); save it with 8 or 16 bits a channel'


class ImageHeader(NamedTuple):
    """What the header of an image says.

    Attributes:
        size: Width and height in pixels as OpenCV loads the image.
        is_turned: Whether EXIF exchanged the two.
        is_deep: Whether a channel has more than 8 bits, of which OpenCV keeps the upper 8.
    """

    size: Size
    is_turned: bool
    is_deep: bool = False


class _PixelLimit:
    """Lifts Pillow's limit of pixels, which guards decoding, while any thread reads a header."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._limit: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Context in which images of any size can be opened; they must not be decoded there."""
        with self._lock:
            if not self._readers:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    Image.MAX_IMAGE_PIXELS = self._limit


_PIXEL_LIMIT = _PixelLimit()
_LARGE_IMAGE = Lock()  # held while one is decoded, so that not all threads do so at once


def _png_size(path: str) -> Size | None:
    """Width and height in pixels of a PNG file, None for one of another kind or without access."""
    try:
        with open(path, 'rb') as file:
            start = file.read(PNG_DEPTH)
    except OSError:
        return None
    if not start.startswith(PNG_START) or len(start) < PNG_DEPTH:
        return None
    return int.from_bytes(start[16:20], 'big'), int.from_bytes(start[20:24], 'big')


def _high_range_kind(path: str) -> str:
    """Name of a kind of file with floating point colours, empty if it is another."""
    if not os.path.isfile(path):
        return ''
    try:
        with open(path, 'rb') as file:
            start = file.read(max(map(len, HIGH_RANGE_STARTS)))
    except OSError:
        return ''
    return next((name for magic, name in HIGH_RANGE_STARTS.items() if start.startswith(magic)), '')


def _decode_size(path: str, size: Size | None = None) -> ImageHeader | str:
    """Size of an image of which Pillow cannot read the header.

    Args:
        path: The file.
        size: Its width and height in pixels, None if they are not known.

    Returns:
        The header, or what is wrong with the file. A large image is taken as its header says.
    """
    kind = _high_range_kind(path) if size is None else ''
    if kind:
        return HIGH_RANGE.format(kind)
    if size is not None and _is_too_large(size):
        return TOO_LARGE
    if size is not None and size[0] * size[1] > LARGEST_DECODED:
        return ImageHeader(size, False)
    try:
        height, width = load_image(path).shape[:2]
    except ImageError as error:
        return error.reason
    return ImageHeader((width, height), False)


def _png_exif(file: IO[bytes]) -> bytes:
    """EXIF data of a PNG file, before or behind its pixels, which are not read; empty if none."""
    file.seek(len(PNG_START))
    while len(start := file.read(8)) == 8:
        size, kind = int.from_bytes(start[:4], 'big'), start[4:]
        if kind == PNG_EXIF:
            return file.read(size)
        if kind == PNG_END:
            break
        file.seek(size + PNG_SUM, os.SEEK_CUR)
    return b''


def _is_turned(image: Any) -> bool:
    """Whether OpenCV exchanges width and height of an image because its EXIF tag says so."""
    if image.format not in TURNING_FORMATS:
        return False
    if image.format == 'PNG':  # Pillow would decode the whole image to look for a tag at its end
        exif = Image.Exif()
        exif.load(_png_exif(image.fp))
        return exif.get(ORIENTATION) in TURNED
    return image.getexif().get(ORIENTATION) in TURNED


def _is_deep(image: Any) -> bool:
    """Whether a channel of an image has more than 8 bits."""
    if image.format == 'PNG' and image.fp is not None:
        image.fp.seek(PNG_DEPTH)
        return image.fp.read(1)[0] > 8
    if image.format == 'TIFF':
        return max(image.tag_v2.get(TIFF_BITS, (1,))) > 8
    return image.mode.startswith(WIDE_MODES)


def _is_cut(path: str, kind: str | None) -> bool:
    """Whether a JPEG or PNG file lacks its end; other kinds are not looked at."""
    if kind not in ('JPEG', 'MPO', 'PNG'):
        return False
    with open(path, 'rb') as file:
        file.seek(max(os.fstat(file.fileno()).st_size - 12, 0))
        end = file.read()
        if end.endswith(JPEG_END) or PNG_END in end:
            return False
        file.seek(0)
        content = file.read()  # some programs append data
    return PNG_END not in content if kind == 'PNG' else is_cut_jpeg(content)


def _is_too_large(size: Size) -> bool:
    """Whether OpenCV refuses an image for its size."""
    return size[0] * size[1] > MAX_PIXELS or max(size) > MAX_SIDE


def _find_fault(path: str, image: Image.Image, size: Size) -> str:
    """Say why OpenCV cannot read an image, as far as its header tells; empty if it can."""
    if image.format == 'TIFF' and image.mode in WIDE_MODES:
        return WIDE_TIFF
    if _is_too_large(size):
        return TOO_LARGE
    if not _is_cut(path, image.format):
        return ''
    return CUT_PNG if image.format == 'PNG' else CUT_OFF


def _examine(path: str) -> ImageHeader | str:
    """Read the header of a file; what is wrong with it, if it is no image that OpenCV can read."""
    if not os.path.isfile(path):  # a pipe would never end
        return _decode_size(path)
    size = None
    try:
        with _PIXEL_LIMIT.lifted(), Image.open(path) as image:
            size = image.size
            if image.format == 'TIFF':  # some versions of Pillow have turned this size already
                size = image.tag_v2[TIFF_WIDTH], image.tag_v2[TIFF_HEIGHT]
            is_turned = _is_turned(image)
            header = ImageHeader(size[::-1] if is_turned else size, is_turned, _is_deep(image))
            return _find_fault(path, image, size) or header
    except Exception:  # Pillow raises whatever its parsers meet in a broken file
        return _decode_size(path, size or _png_size(path))


def read_header(path: str) -> ImageHeader | None:
    """Read the size of an image from the header of its file, and look for the file's end.

    Args:
        path: The file.

    Returns:
        The header, None if the file is not an image that OpenCV can read, as far as one can tell
        without decoding it.
    """
    found = _examine(path)
    return None if isinstance(found, str) else found


def decode_header(path: str) -> ImageHeader | None:
    """Read the header of an image and decode its pixels.

    Args:
        path: The file.

    Returns:
        The header, None if the file is not an image that OpenCV can read.
    """
    header = read_header(path)
    if header is None:
        return None
    is_large = header.size[0] * header.size[1] > LARGEST_DECODED
    try:
        with _LARGE_IMAGE if is_large else nullcontext():
            load_image(path)
    except ImageError:
        return None
    return header


def explain_unreadable(path: str) -> str:
    """Say why an image cannot be read, without decoding it where its header tells.

    Args:
        path: The file, of which there is no header.

    Returns:
        A clause.
    """
    found = _examine(path)
    if isinstance(found, str):
        return found
    try:
        load_image(path)
    except ImageError as error:
        return error.reason
    return 'OpenCV reads it now'


def read_headers(
    paths: Sequence[str],
    progress: Progress | None = None,
    threads: int = 8,
    pixels: bool = False,
) -> list[ImageHeader | None]:
    """Read the sizes of many images.

    Args:
        paths: The files.
        progress: Shows a progress bar, such as ``tqdm`` does, if given.
        threads: Files to read at the same time, for the sake of slow disks.
        pixels: Whether to decode the images, which finds damage beyond the header.

    Returns:
        A header for each file, None for one that is not a readable image.
    """
    with ThreadPool(threads) as pool:
        headers = pool.imap(decode_header if pixels else read_header, paths, chunksize=16)
        return list(headers if progress is None else progress(headers, len(paths)))
