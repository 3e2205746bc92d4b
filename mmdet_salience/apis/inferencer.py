"""MMDetection's inferencer with the names of these models."""

from pathlib import Path
from typing import Any

from mmdet.apis import DetInferencer as MMDetInferencer
from mmengine.config import Config

from .model_zoo import find_model


class DetInferencer(MMDetInferencer):
    """MMDetection's ``DetInferencer``, which also takes the names of our published models.

    Args:
        model: Name of a published model, or path of a config, or a config; None to take the config
            from ``weights``.
        weights: Path or address of a checkpoint; those of the named model by default.
        **kwargs: Arguments of MMDetection's ``DetInferencer``.

    Raises:
        FileNotFoundError: ``model`` looks like a path, and there is no such file.
        ValueError: ``model`` is neither a file nor a published model.
    """

    def __init__(
        self, model: str | Config | None = None, weights: str | None = None, **kwargs: Any
    ) -> None:
        if isinstance(model, str) and not Path(model).is_file():
            if Path(model).name != model:
                raise FileNotFoundError(f'there is no config file {model}; check the path')
            found = find_model(model)
            model, weights = str(found.config), weights or found.weights
        super().__init__(model, weights, **kwargs)
