"""A loader of images that finds damaged ones, and names or skips them."""

import math
from typing import Any, NamedTuple

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS

from ..fault_record import Fault, FaultRecord
from ..image_content import ImageError, load_image
from ..thin_images import TOO_THIN, is_thin

BLANK_VALUE = 114  # grey in place of an image that a test cannot leave out
MOST_SHOWN = 5  # images in the message of an error, the last ones
INDENT = '\n  '


class FaultPolicy(NamedTuple):
    """What happens to an image that cannot be used.

    Attributes:
        record: Where it is noted.
        split: ``'train'``, ``'val'`` or ``'test'``.
        num_images: Images of the split.
        limit: Most images of the split that may be skipped; none if 0.
        blank: Whether a grey image takes its place; else the data set draws another image, which
            only one that is not in test mode can.
    """

    record: FaultRecord
    split: str
    num_images: int
    limit: int
    blank: bool = False

    def note(self, error: ImageError) -> None:
        """Note an image.

        Args:
            error: What is wrong with it.

        Raises:
            ImageError: There are more than the limit; the message names the last ones.
        """
        is_new = self.record.add(Fault(self.split, error.path, error.reason))
        if self.limit and not is_new:
            return
        faults = self.record.read(self.split)
        if len(faults) <= self.limit:
            return
        lines = [f'{fault.path}: {fault.reason}' for fault in faults[-MOST_SHOWN:]]
        raise ImageError(
            f'{len(faults)} of {self.num_images} images of {self.split} cannot be used, and '
            f'data_check.bad_images allows to skip {self.limit}:\n  {INDENT.join(lines)}\n'
            f'All are listed in {self.record.path}. Mend them, or leave them out with '
            'tools/analysis_tools/check_dataset.py --pixels --repair.'
        ) from error


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """Load an image as ``LoadImageFromFile`` does, but no damaged one.

    Good images come out the same, so a model may be trained with this loader and used with the
    other. What cannot be used, see :func:`decode_image`, ends in an :class:`ImageError` that names
    the file, unless a policy says otherwise. ``DataFittingRunner`` puts this loader with a policy
    in place of each ``LoadImageFromFile`` in its data sets.

    Args:
        *args: As for ``LoadImageFromFile``.
        check_size: Whether an image of another size than the annotations say cannot be used.
        max_ratio: Ratio of long to short side from which on an image cannot be used, because
            resizing would leave nothing of it; see :func:`largest_ratio`.
        policy: What happens to images that cannot be used; None for an error.
        **kwargs: As for ``LoadImageFromFile``; ``ignore_empty`` has no effect.
    """

    def __init__(
        self,
        *args: Any,
        check_size: bool = True,
        max_ratio: float = math.inf,
        policy: FaultPolicy | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.check_size = check_size
        self.max_ratio = max_ratio
        self.policy = policy

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load the image.

        Args:
            results: ``img_path``; ``height`` and ``width`` where annotations say them.

        Returns:
            The same with ``img``, (H, W, 3), uint8 or float32, ``img_shape`` and ``ori_shape``;
            None to draw another image.

        Raises:
            ImageError: The image cannot be used, and may not be skipped.
        """
        try:
            image = self._load(results)
        except ImageError as error:
            if self.policy is None:
                raise
            self.policy.note(error)
            if not self.policy.blank:
                return None
            image = self._blank(results, error)
        if self.to_float32:
            image = image.astype(np.float32)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results

    def _load(self, results: dict[str, Any]) -> np.ndarray:
        """Load and check the image; raises ImageError."""
        path = results['img_path']
        image = load_image(path, self.color_type, self.imdecode_backend, self.backend_args)
        height, width = image.shape[:2]
        said = annotated_size(results)
        if self.check_size and said not in (None, (width, height)):
            raise ImageError(
                path, '{}x{} in the annotations, but {}x{} in the file'.format(*said, width, height)
            )
        if is_thin(width, height, self.max_ratio):
            raise ImageError(path, f'{width}x{height} {TOO_THIN}')
        return image

    def _blank(self, results: dict[str, Any], error: ImageError) -> np.ndarray:
        """Make a grey image of the annotated size, but no thin one.

        Args:
            results: What the dataset knows of the image.
            error: What is raised where no size is annotated.

        Returns:
            The image, (H, W, 3) or (H, W).
        """
        size = annotated_size(results)
        if size is None:
            raise error
        if is_thin(*size, self.max_ratio):
            shortest = int(max(size) / self.max_ratio) + 1
            size = (max(size[0], shortest), max(size[1], shortest))
        channels = () if self.color_type.startswith('grayscale') else (3,)
        return np.full((*size[::-1], *channels), BLANK_VALUE, np.uint8)


def annotated_size(results: dict[str, Any]) -> tuple[int, int] | None:
    """Size of an image as its annotations say it.

    Args:
        results: What the dataset knows of the image.

    Returns:
        Width and height in pixels, None where one is missing or 0.
    """
    width, height = results.get('width') or 0, results.get('height') or 0
    return (width, height) if width > 0 and height > 0 else None
