"""MMDetection's inferencer with the names of these models, and with checked images."""

import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.apis import DetInferencer as MMDetInferencer
from mmengine.config import Config

from ..utils.config_text import load_checkpoint_config
from ..utils.safe_load import trusted, trusting
from .image_pipeline import ImagePipeline
from .model_zoo import find_model


class DetInferencer(MMDetInferencer):
    """MMDetection's ``DetInferencer``, which also takes the names of our published models.

    Args:
        model: Name of a published model, or path of a config, or a config; None to take the config
            from ``weights``.
        weights: Path or address of a checkpoint; those of the named model by default.
        skip_unreadable: Whether missing and damaged images are left out of the results, with a
            warning; else the first one ends the call.
        trust_checkpoints: Whether checkpoint and the config in it may run code as they are loaded.
        **kwargs: Arguments of MMDetection's ``DetInferencer``.

    Raises:
        FileNotFoundError: ``model`` looks like a path, and there is no such file.
        ValueError: ``model`` is neither a file nor a published model, or the checkpoint could run
            code, or is damaged.
    """

    def __init__(
        self,
        model: str | Config | None = None,
        weights: str | None = None,
        *,
        skip_unreadable: bool = False,
        trust_checkpoints: bool = False,
        **kwargs: Any,
    ) -> None:
        self.skip_unreadable = skip_unreadable
        if isinstance(model, str) and not Path(model).is_file():
            if Path(model).name != model:
                raise FileNotFoundError(f'there is no config file {model}; check the path')
            found = find_model(model)
            model, weights = str(found.config), weights or found.weights
        with trusting(trusted() or trust_checkpoints):
            if model is None and weights is not None:
                model = load_checkpoint_config(weights)
            super().__init__(model, weights, **kwargs)

    def _init_pipeline(self, cfg: Config) -> ImagePipeline:
        """Make the pipeline that finds damaged images; MMDetection's changes the config."""
        return ImagePipeline(cfg)

    def _get_chunk_data(
        self, inputs: Iterable[str | np.ndarray], chunk_size: int
    ) -> Iterator[list[tuple[str | np.ndarray, dict]]]:
        """Read images, batch by batch.

        Args:
            inputs: Paths or arrays.
            chunk_size: Images of a batch.

        Yields:
            Images and what the pipeline made of them.

        Raises:
            ValueError: An image is missing or damaged, and is not to be left out.
        """
        read = filter(None, map(self._read, inputs))
        while chunk := list(islice(read, chunk_size)):
            yield chunk

    def _read(self, image: str | np.ndarray) -> tuple[str | np.ndarray, dict] | None:
        """Pair an image with what the pipeline makes of it; None if it is left out."""
        try:
            return image, self.pipeline(image)
        except ValueError as error:
            if not self.skip_unreadable:
                raise ValueError(
                    f'{error}; DetInferencer(..., skip_unreadable=True) leaves such images out'
                ) from error
            warnings.warn(f'left out: {error}', stacklevel=2)
            return None
