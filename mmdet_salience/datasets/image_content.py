"""Pixels of image files, with errors that name the file and what is wrong with it."""

import os
import stat
from typing import Any

import cv2
import numpy as np
from mmengine.fileio import get

from .checks.annotation_file import is_local

MAX_PIXELS = int(os.environ.get('OPENCV_IO_MAX_IMAGE_PIXELS', 2**30))
MAX_SIDE = int(os.environ.get('OPENCV_IO_MAX_IMAGE_WIDTH', 2**20))
TOO_LARGE = (
    f'larger than OpenCV reads ({MAX_PIXELS:,} pixels, {MAX_SIDE:,} a side); cut it into tiles, or '
    'raise the limits by the environment variables OPENCV_IO_MAX_IMAGE_PIXELS and ..._WIDTH'
)
CUT_OFF = 'cut off: the end of the JPEG data is missing'

JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'
SCAN_START = 0xDA  # marker after which the pixels come


class ImageError(ValueError):
    """An image that cannot be used.

    Args:
        path: The file.
        reason: What is wrong with it.

    Both are attributes too.
    """

    def __init__(self, path: str, reason: str = '') -> None:
        super().__init__(f'{path}: {reason}' if reason else path)
        self.path = path
        self.reason = reason


def is_cut_jpeg(content: bytes) -> bool:
    """Whether a JPEG file lacks its end.

    Some versions of OpenCV fill what is missing with grey and say so on the standard error output
    only. An end marker within the header belongs to a thumbnail and does not count; what cameras
    append after the image does no harm.

    Args:
        content: Content of a JPEG file.

    Returns:
        True where no end marker follows the header, or the header itself is cut.
    """
    place = len(JPEG_START)
    while place + 4 <= len(content):
        marker, kind = content[place], content[place + 1]
        if marker != 0xFF or kind == SCAN_START:
            return content.rfind(JPEG_END, place) < 0
        # Any number of bytes FF may fill the space before a marker.
        place += 1 if kind == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4], 'big')
    return True


def decode_image(
    content: bytes, color_type: str = 'color', backend: str | None = 'cv2'
) -> np.ndarray:
    """Decode an image as MMDetection's loader does, but no damaged one.

    For ``color`` with OpenCV the result is BGR (H, W, 3), uint8: EXIF orientation is applied, grey
    becomes three equal channels, alpha is dropped and of 16 bits the upper 8 are kept.

    Args:
        content: Content of the file.
        color_type: ``flag`` of ``mmcv.imfrombytes``.
        backend: ``backend`` of ``mmcv.imfrombytes``.

    Returns:
        The image, (H, W, 3) or (H, W).

    Raises:
        ValueError: The image is damaged or too large; the message says what is wrong.
        MemoryError: There is not enough memory, which is not the file's fault.
    """
    from mmcv import imfrombytes  # brings PyTorch, which a check of headers does without

    if not content:
        raise ValueError('the file is empty')
    if content.startswith(JPEG_START) and is_cut_jpeg(content):
        raise ValueError(CUT_OFF)
    try:
        image = imfrombytes(content, flag=color_type, backend=backend)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(f'no memory for an image: {error.err}') from error
        # OpenCV quotes the condition that failed.
        reason = TOO_LARGE if 'CV_IO_MAX_IMAGE' in error.err else f'OpenCV says {error.err}'
        raise ValueError(reason) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow and others raise whatever they meet in a broken file
        raise ValueError(f'not a readable image ({type(error).__name__}: {error})') from error
    if image is None:
        raise ValueError('not a readable image: another format, or damaged pixels')
    return image


def _odd_kind(path: str) -> str:
    """What a path leads to if it is neither a file nor missing; a pipe would never end."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ''  # reading it says why
    if stat.S_ISREG(mode):
        return ''
    return 'it is a folder' if stat.S_ISDIR(mode) else 'it is no regular file'


def read_content(path: str, backend_args: dict[str, Any] | None = None) -> bytes:
    """Read a file.

    Args:
        path: Path or address.
        backend_args: Arguments of MMEngine's file backend.

    Returns:
        Its content.

    Raises:
        ImageError: It cannot be read; names the file.
        MemoryError: There is not enough memory.
    """
    kind = _odd_kind(path) if is_local(path, backend_args) else ''
    if kind:
        raise ImageError(path, kind)
    try:
        return get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise ImageError(path, 'there is no such file') from error
    except MemoryError:
        raise
    except Exception as error:  # backends of remote stores have errors of their own
        system = error.strerror if isinstance(error, OSError) else None
        reason = system or f'{type(error).__name__}: {error}'
        raise ImageError(path, f'cannot be read: {reason}') from error


def load_image(
    path: str,
    color_type: str = 'color',
    backend: str | None = 'cv2',
    backend_args: dict[str, Any] | None = None,
) -> np.ndarray:
    """Read and decode an image, see :func:`decode_image`.

    Args:
        path: Path or address of the file.
        color_type: ``flag`` of ``mmcv.imfrombytes``.
        backend: ``backend`` of ``mmcv.imfrombytes``.
        backend_args: Arguments of MMEngine's file backend.

    Returns:
        The image, for ``color`` BGR (H, W, 3), uint8.

    Raises:
        ImageError: It cannot be read or is damaged; names the file.
    """
    content = read_content(path, backend_args)
    try:
        return decode_image(content, color_type, backend)
    except ValueError as error:
        raise ImageError(path, str(error)) from error
