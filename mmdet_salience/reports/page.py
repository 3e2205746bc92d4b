"""Self-contained HTML pages from templates.

A page loads nothing from anywhere, which its content security policy enforces: it opens from disk
and can be sent as one file.
"""

import base64
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """The templates of this package; all text is escaped, an unknown name is an error."""
    return Environment(
        loader=PackageLoader('mmdet_salience.reports'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def image_uri(image: np.ndarray, max_side: int | None = None, quality: int | None = None) -> str:
    """Encode an image for the ``src`` of an HTML image.

    Args:
        image: RGB (H, W, 3) or RGBA (H, W, 4), uint8.
        max_side: Larger images are shrunk to this longer side in pixels; None for never.
        quality: JPEG quality in 1..100; None for lossless PNG, which RGBA needs.

    Returns:
        A ``data:`` address.

    Raises:
        ValueError: The image is no such array, or RGBA with a JPEG quality.
    """
    channels = image.shape[-1] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (3, 4):
        raise ValueError(f'image must be uint8 RGB or RGBA, got {image.dtype} {image.shape}')
    if channels == 4 and quality is not None:
        raise ValueError('JPEG knows no transparency; leave quality out for RGBA images')
    factor = max_side / max(image.shape[:2]) if max_side else 1.0
    if factor < 1:
        size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    order = cv2.COLOR_RGB2BGR if channels == 3 else cv2.COLOR_RGBA2BGRA
    suffix = 'png' if quality is None else 'jpeg'
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, encoded = cv2.imencode(f'.{suffix}', cv2.cvtColor(image, order), options)
    return f'data:image/{suffix};base64,{base64.b64encode(encoded.tobytes()).decode()}'


def render_page(template: str, **values: Any) -> str:
    """Fill in a template.

    Args:
        template: Name of a file in ``templates/``, which extends ``base.html.jinja``.
        **values: What the template names; ``title`` always.

    Returns:
        The page.

    Raises:
        jinja2.UndefinedError: The template names a value that is missing.
    """
    return environment().get_template(template).render(**values)


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Write a page; arguments as those of :func:`render_page`.

    Args:
        path: The file; its folder is made if needed, and an older page is replaced at once.
        template: Name of the template.
        **values: What the template names.

    Returns:
        The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.name}.part')
    draft.write_text(render_page(template, **values), encoding='utf-8')
    draft.replace(path)
    return path
