"""A model's test pipeline for files and arrays, safe to share between threads."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from ..datasets.image_content import ImageError
from ..datasets.thin_images import largest_ratio
from ..datasets.transforms import LoadCheckedImage
from ..utils.config_types import type_name

# MMDetection's loaders of test pipelines. Its inference functions exchange them within the model's
# config, so that the loader there may not be the one that the config's author wrote.
MMDET_LOADERS = ('LoadImageFromFile', 'LoadImageFromNDArray', 'InferencerLoader')


class ImagePipeline:
    """Read images and prepare them as the test pipeline of a config says.

    The config stays as it is, and no call changes the pipeline. Where the config loads images in
    MMDetection's ways, damaged files are found, see :class:`LoadCheckedImage`.

    Args:
        cfg: Whole config of a model, such as ``model.cfg``; the first transform of its test
            pipeline loads the image.
    """

    def __init__(self, cfg: Config) -> None:
        loader, *transforms = deepcopy(get_test_pipeline_cfg(cfg))
        if type_name(loader['type']) in MMDET_LOADERS:
            # The checked loader reads by backend_args alone.
            is_old = bool(loader.get('file_client_args'))
            loader['type'] = 'LoadImageFromFile' if is_old else LoadCheckedImage
            loader.update({} if is_old else dict(max_ratio=largest_ratio(transforms)))
        self.load_file = TRANSFORMS.build(loader)
        self.load_array = TRANSFORMS.build(
            dict(type='mmdet.LoadImageFromNDArray', to_float32=loader.get('to_float32', False))
        )
        self.transforms = Compose([TRANSFORMS.build(transform) for transform in transforms])

    def __call__(self, image: str | Path | np.ndarray) -> dict[str, Any]:
        """Read an image and prepare it.

        Args:
            image: Its path, or a BGR array (H, W, 3).

        Returns:
            What the pipeline packs: ``inputs``, (3, h, w), and ``data_samples``.

        Raises:
            ValueError: The file is missing or damaged, or the array has another shape, or the
                pipeline cannot prepare it; the message begins with the path.
        """
        loaded = self.load(image)
        try:
            packed = self.transforms(loaded)
        except MemoryError:
            raise
        except Exception as error:  # whatever a transform raises for an odd image
            raise ImageError(
                name_of(image), f'the test pipeline fails: {describe(error)}'
            ) from error
        if packed is None:
            raise ImageError(name_of(image), 'the test pipeline leaves it out')
        return packed

    def load(self, image: str | Path | np.ndarray) -> dict[str, Any]:
        """Read an image; argument and errors as for a call, returns what the loader does."""
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
                raise ImageError(name_of(image), 'must be (height, width, 3), in BGR order')
            return self.load_array(dict(img=image, img_id=0))
        try:
            return self.load_file(dict(img_path=str(image), img_id=0))
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # a loader of the user's own
            raise ImageError(str(image), f'cannot be read: {describe(error)}') from error


def name_of(image: str | Path | np.ndarray) -> str:
    """Path of an image, or the shape of an array, for messages."""
    return f'array of shape {image.shape}' if isinstance(image, np.ndarray) else str(image)


def describe(error: Exception) -> str:
    """Type and first line of an error."""
    first_line = next(iter(str(error).strip().splitlines()), '')
    return f'{type(error).__name__}: {first_line}'.removesuffix(': ')
