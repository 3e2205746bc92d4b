"""Sizes of images from the headers of their files, as OpenCV will load them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Passes items on and shows how many of the given number have passed."""

ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # its values that exchange width and height
TURNING_FORMATS = ('JPEG', 'MPO', 'PNG', 'TIFF')  # where OpenCV heeds the tag
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags


class ImageHeader(NamedTuple):
    """Size ``(width, height)`` in pixels as OpenCV loads it, and whether EXIF exchanged the two."""

    size: tuple[int, int]
    is_turned: bool


def _decode_size(path: str) -> ImageHeader | None:
    """Size of an image of which Pillow cannot read the header, None if OpenCV cannot either."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if image is None else ImageHeader((image.shape[1], image.shape[0]), False)


def _is_turned(image: Image.Image) -> bool:
    """Whether OpenCV exchanges width and height of an image because its EXIF tag says so."""
    if image.format not in TURNING_FORMATS:
        return False
    if image.format == 'PNG' and 'exif' not in image.info:
        return False  # Pillow would decode the whole image to look for a tag at its end
    return image.getexif().get(ORIENTATION) in TURNED


def read_header(path: str) -> ImageHeader | None:
    """Read the size of an image from the header of its file.

    Args:
        path: The file.

    Returns:
        The header, None if the file is not an image that OpenCV can read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.format == 'TIFF':  # some versions of Pillow have turned this size already
                width, height = image.tag_v2[TIFF_WIDTH], image.tag_v2[TIFF_HEIGHT]
            is_turned = _is_turned(image)
    except Exception:  # Pillow raises whatever its parsers meet in a broken file
        return _decode_size(path)
    return ImageHeader((height, width) if is_turned else (width, height), is_turned)


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
    paths: Sequence[str], progress: Progress | None = None, threads: int = 8
) -> list[ImageHeader | None]:
    """Read the sizes of many images.

    Args:
        paths: The files.
        progress: Shows a progress bar, such as ``tqdm`` does, if given.
        threads: Files to read at the same time, for the sake of slow disks.

    Returns:
        A header for each file, None for one that is not a readable image.
    """
    with _without_pixel_limit(), ThreadPool(threads) as pool:
        headers = pool.imap(read_header, paths, chunksize=16)
        return list(headers if progress is None else progress(headers, len(paths)))
