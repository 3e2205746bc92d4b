"""Classes of a mask image: from its values or colours to class indices.

Shapes: H and W the sides of the mask, N the different codes in it, K the codes that are known, and
C the numbers of a code: 1 for a value or palette index, 3 for a colour (red, green, blue).
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .coco_writer import ImageSize
from .data_problems import DataError

# What Pillow's parsers raise for broken files.
UNREADABLE = (
    OSError,
    MemoryError,
    SyntaxError,
    ValueError,
    struct.error,
    Image.DecompressionBombError,
)

Code = tuple[int, ...]
NO_COLOR = -(10**6)  # further from all colours than any tolerance


class MaskClasses(NamedTuple):
    """What the codes of a mask mean.

    ``names`` are the classes 1, 2, 3, ... ``codes`` int (K, C) are those of background, ignored
    pixels and classes, ``labels`` int (K,) their classes, 0 for none. Each channel of a colour may
    differ by ``tolerance``; of several such colours the one with the smallest sum of differences
    counts.
    """

    names: list[str]
    codes: np.ndarray
    labels: np.ndarray
    tolerance: int

    @property
    def by_color(self) -> bool:
        """Whether the codes are colours."""
        return self.codes.shape[1] == 3


class CodedMask(NamedTuple):
    """A mask as rows, int (H, W), of a table of codes, int (N, C)."""

    rows: np.ndarray
    table: np.ndarray


class DecodedMask(NamedTuple):
    """Class indices int (H, W), 0 background, and the pixels of each unknown code, most first."""

    labels: np.ndarray
    unknown: dict[Code, int]


def parse_code(text: str) -> Code:
    """Read a value or a colour.

    Args:
        text: ``7`` or ``128,0,0``.

    Returns:
        One or three numbers.

    Raises:
        ValueError: If the text is something else.
    """
    parts = [part.strip() for part in text.split(',')]
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f'expected a value such as 7 or a colour such as 128,0,0, got {text!r}')
    code = tuple(map(int, parts))
    if len(code) == 3 and max(code) > 255:
        raise ValueError(f'expected a colour of numbers from 0 to 255, got {text!r}')
    return code


def parse_classes(
    entries: Sequence[str],
    background: str | None = None,
    ignored: Sequence[str] = (),
    tolerance: int = 0,
) -> MaskClasses:
    """Read what the codes of masks mean.

    Args:
        entries: ``NAME=VALUE`` or ``NAME=RED,GREEN,BLUE``, all of one form. Names alone have the
            values 1, 2, 3, ...
        background: Value or colour of the background, 0 or 0,0,0 if None.
        ignored: Values or colours of pixels that become background too.
        tolerance: Most difference of a channel from the colour.

    Returns:
        The classes.

    Raises:
        ValueError: If an entry is malformed, forms are mixed or a code or name has two meanings.
    """
    pairs = [entry.rpartition('=')[::2] if '=' in entry else (entry, '') for entry in entries]
    if not any(code for _, code in pairs):
        pairs = [(name, str(value)) for value, (name, _) in enumerate(pairs, 1)]
    names = [name.strip() for name, _ in pairs]
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(f'expected different names of classes, got {", ".join(entries)}')
    without = [name for name, code in pairs if not code.strip()]
    if without:
        raise ValueError(f'give a value or colour for all classes or for none, not {without[0]!r}')
    class_codes = [parse_code(code) for _, code in pairs]
    zero = ','.join(['0'] * len(class_codes[0]))
    others = [parse_code(text) for text in (zero if background is None else background, *ignored)]
    codes = [*others, *class_codes]
    if len({len(code) for code in codes}) > 1:
        raise ValueError('classes, background and ignored pixels must be all values or all colours')
    if len(set(codes)) < len(codes):
        repeated = next(code for code in codes if codes.count(code) > 1)
        raise ValueError(f'{format_code(repeated)} has two meanings; background is {others[0]}')
    if tolerance and len(codes[0]) == 1:
        raise ValueError('a tolerance goes with colours; write the value 255 as 255,255,255')
    labels = [0] * len(others) + list(range(1, len(names) + 1))
    return MaskClasses(names, np.array(codes), np.array(labels), tolerance)


def format_code(code: Sequence[int]) -> str:
    """Write a value or colour as on the command line.

    Args:
        code: One or three numbers.

    Returns:
        The numbers with commas between them.
    """
    return ','.join(map(str, code))


def _code_values(values: np.ndarray) -> CodedMask:
    """Number the values of a mask.

    Runs of equal pixels are sorted instead of pixels, which are many more.

    Args:
        values: Integers (H, W).

    Returns:
        The mask, with C = 1.
    """
    if values.dtype == np.uint8:
        return CodedMask(values, np.arange(256)[:, None])
    pixels = values.ravel()
    starts = np.flatnonzero(np.append(True, pixels[1:] != pixels[:-1]))
    table, numbers = np.unique(pixels[starts], return_inverse=True)
    rows = np.repeat(numbers, np.diff(np.append(starts, len(pixels))))
    return CodedMask(rows.reshape(values.shape), table.astype(np.int64)[:, None])


def _code_colors(image: Image.Image) -> CodedMask:
    """Number the colours of a mask.

    Args:
        image: Image of any mode.

    Returns:
        The mask, with C = 3.
    """
    if image.mode == 'P':
        palette = np.array(image.getpalette('RGB')).reshape(-1, 3)
        table = np.full((256, 3), NO_COLOR)
        table[: len(palette)] = palette
        return CodedMask(np.asarray(image), table)
    red, green, blue = np.moveaxis(np.asarray(image.convert('RGB')).astype(np.int32), 2, 0)
    packed = _code_values(red << 16 | green << 8 | blue)
    return CodedMask(packed.rows, packed.table >> [16, 8, 0] & 255)


def _code_image(image: Image.Image, by_color: bool) -> CodedMask:
    """Number the codes of a mask.

    Args:
        image: Image of any mode; transparency is ignored.
        by_color: Whether a palette image is taken by its colours, not by its indices.

    Returns:
        The mask; C is 1 for palette indices and grey images.

    Raises:
        ValueError: If it has values that are not whole numbers.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode not in ('P', '1', 'L', 'LA', 'F') and not image.mode.startswith('I'):
        return _code_colors(image)
    if image.mode == 'P' and by_color:
        return _code_colors(image)
    values = np.asarray(image.getchannel(0) if image.mode == 'LA' else image)
    if values.dtype.kind == 'f' and not np.array_equal(values, np.round(values)):
        raise ValueError('its values are not whole numbers')
    return _code_values(values if values.dtype == np.uint8 else values.astype(np.int64))


def _check_size(size: tuple[int, int], expected: ImageSize, where: str) -> None:
    """Compare the size of a mask with that of its image; raises DataError if they differ."""
    if size != expected:
        detail = f'the mask is {ImageSize(*size)}, the image {expected}'
        raise DataError('masks of another size than the image', detail, where)


def load_mask(path: Path, by_color: bool, where: str, size: ImageSize | None = None) -> CodedMask:
    """Load a mask, upright as its EXIF orientation says.

    Args:
        path: The image of the mask.
        by_color: Whether a palette image is taken by its colours, not by its indices.
        where: How to call the file in problems.
        size: Size of its image, if known; a mask of another size is not decoded.

    Returns:
        The mask.

    Raises:
        DataError: If the file is not an image, is cut short, holds fractions, has another size, or
            more pixels than Pillow decodes.
    """
    try:
        with Image.open(path) as image:
            if size and image.size != size[::-1]:  # EXIF may turn it
                _check_size(image.size, size, where)
            mask = _code_image(image, by_color)
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError('unreadable masks', str(error) or type(error).__name__, where) from error
    if size:
        _check_size(mask.rows.shape[::-1], size, where)
    return mask


def match_codes(table: np.ndarray, classes: MaskClasses) -> np.ndarray:
    """Find what the codes of a mask mean.

    A grey value v and the colour v,v,v match each other.

    Args:
        table: int (N, C), codes of the mask.
        classes: The known codes, of the same C or not.

    Returns:
        int (N,), the class of each code, 0 for background and -1 if it is unknown.
    """
    if table.shape[1] < classes.codes.shape[1]:
        table = table.repeat(3, axis=1)
    elif table.shape[1] > classes.codes.shape[1]:
        is_gray = (table == table[:, :1]).all(axis=1, keepdims=True)
        table = np.where(is_gray, table[:, :1], NO_COLOR)
    differences = np.abs(table[:, None] - classes.codes[None])
    is_near = differences.max(axis=2) <= classes.tolerance
    distances = np.where(is_near, differences.sum(axis=2), -3 * NO_COLOR)
    return np.where(is_near.any(axis=1), classes.labels[distances.argmin(axis=1)], -1)


def decode_mask(mask: CodedMask, classes: MaskClasses) -> DecodedMask:
    """Turn the codes of a mask into classes.

    Args:
        mask: The mask.
        classes: What its codes mean.

    Returns:
        The classes of its pixels; unknown codes become background.
    """
    labels = match_codes(mask.table, classes)
    counts = np.bincount(mask.rows.ravel(), minlength=len(labels))
    unknown = np.flatnonzero((labels < 0) & (counts > 0))
    unknown = unknown[np.argsort(-counts[unknown], kind='stable')]
    return DecodedMask(
        np.maximum(labels, 0)[mask.rows],
        {tuple(mask.table[row].tolist()): int(counts[row]) for row in unknown},
    )
