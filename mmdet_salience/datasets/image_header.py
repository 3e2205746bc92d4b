"""Sizes of images from the headers of their files, as OpenCV will load them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

from PIL import Image

from .image_content import JPEG_END, MAX_PIXELS, MAX_SIDE, ImageError, is_cut_jpeg, load_image

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Passes items on and shows how many of the given number have passed."""

ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that exchange width and height
TURNING_FORMATS = ('JPEG', 'MPO', 'PNG', 'TIFF')  # where OpenCV heeds the tag
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS = 256, 257, 258  # tags
WIDE_MODES = ('F', 'I')  # 32 bits a pixel, which OpenCV reads from no TIFF file
PNG_END = b'IEND'
PNG_DEPTH = 24  # place of the number of bits


class ImageHeader(NamedTuple):
    """What the header of an image says.

    Attributes:
        size: Width and height in pixels as OpenCV loads the image.
        is_turned: Whether EXIF exchanged the two.
        is_deep: Whether a channel has more than 8 bits, of which OpenCV keeps the upper 8.
    """

    size: tuple[int, int]
    is_turned: bool
    is_deep: bool = False


def _decode_size(path: str) -> ImageHeader | None:
    """Size of an image of which Pillow cannot read the header, None if OpenCV cannot either."""
    try:
        height, width = load_image(path).shape[:2]
    except ImageError:
        return None
    return ImageHeader((width, height), False)


def _is_turned(image: Image.Image) -> bool:
    """Whether OpenCV exchanges width and height of an image because its EXIF tag says so."""
    if image.format not in TURNING_FORMATS:
        return False
    if image.format == 'PNG' and 'exif' not in image.info:
        return False  # Pillow would decode the whole image to look for a tag at its end
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


def _is_too_large(size: tuple[int, int]) -> bool:
    """Whether OpenCV refuses an image for its size."""
    return size[0] * size[1] > MAX_PIXELS or max(size) > MAX_SIDE


def read_header(path: str) -> ImageHeader | None:
    """Read the size of an image from the header of its file, and look for the file's end.

    Args:
        path: The file.

    Returns:
        The header, None if the file is not an image that OpenCV can read, as far as one can tell
        without decoding it.
    """
    if not os.path.isfile(path):  # a pipe would never end
        return None
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.format == 'TIFF':  # some versions of Pillow have turned this size already
                width, height = image.tag_v2[TIFF_WIDTH], image.tag_v2[TIFF_HEIGHT]
            is_turned = _is_turned(image)
            is_wide = image.format == 'TIFF' and image.mode in WIDE_MODES
            is_broken = is_wide or _is_too_large((width, height)) or _is_cut(path, image.format)
            is_deep = _is_deep(image)
    except Exception:  # Pillow raises whatever its parsers meet in a broken file
        return _decode_size(path)
    if is_broken:
        return None
    return ImageHeader((height, width) if is_turned else (width, height), is_turned, is_deep)


def decode_header(path: str) -> ImageHeader | None:
    """Read the header of an image and decode its pixels.

    Args:
        path: The file.

    Returns:
        The header, None if the file is not an image that OpenCV can read.
    """
    header = read_header(path)
    return header if header is not None and _decode_size(path) is not None else None


def explain_unreadable(path: str) -> str:
    """Say why an image cannot be read.

    Args:
        path: The file, of which there is no header.

    Returns:
        A clause.
    """
    try:
        load_image(path)
    except ImageError as error:
        return error.reason
    return 'OpenCV reads it now'


@contextmanager
def _without_pixel_limit() -> Iterator[None]:
    """Let Pillow open large images: only their headers are read."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


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
    with _without_pixel_limit(), ThreadPool(threads) as pool:
        headers = pool.imap(decode_header if pixels else read_header, paths, chunksize=16)
        return list(headers if progress is None else progress(headers, len(paths)))
