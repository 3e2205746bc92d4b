"""MMDetection's inferencer with the names of these models, and with checked images."""

import inspect
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.apis import DetInferencer as MMDetInferencer
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmengine.config import Config

from ..datasets.file_lists import list_below
from ..utils.config_text import read_config, require_plain_config
from ..utils.safe_load import trusted, trusting
from .image_pipeline import ImagePipeline, name_of
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
                require_plain_config(read_config(weights), weights)
            super().__init__(model, weights, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Detect objects in images.

        Args:
            inputs: File, folder, BGR array (H, W, 3), or a list of files and arrays. Of a folder
                the images that lie in it are taken, not those of its subfolders.
            *args: As for MMDetection's ``DetInferencer``.
            **kwargs: As for MMDetection's ``DetInferencer``.

        Returns:
            ``predictions`` and ``visualization``, as MMDetection's.

        Raises:
            ValueError: An image is missing or damaged and not to be left out, a folder holds no
                image, or two images would be written to one file, before anything is written.
        """
        images = self._inputs_to_list(inputs)
        call = inspect.signature(MMDetInferencer.__call__).bind(self, images, *args, **kwargs)
        call.apply_defaults()
        self._check_outputs(images, call.arguments)
        return super().__call__(images, *args, **kwargs)

    def _inputs_to_list(self, inputs: Any) -> list[str | np.ndarray]:
        """List images; as MMDetection's, but for folders of this file system, see a call."""
        if isinstance(inputs, (str, Path)) and os.path.isdir(inputs):
            return [*list_images(str(inputs))]
        images = super()._inputs_to_list(inputs)
        return [str(image) if isinstance(image, Path) else image for image in images]

    def _check_outputs(self, images: list[str | np.ndarray], options: dict[str, Any]) -> None:
        """Check that no two images are written to one file.

        Args:
            images: Paths and arrays.
            options: Arguments of the call.

        Raises:
            ValueError: Two of them would be.
        """
        out_dir = options['out_dir']
        if out_dir and not options['no_save_vis']:
            names = [
                os.path.basename(image) if isinstance(image, str) else f'{number:08}.jpg'
                for number, image in enumerate(images, self.num_visualized_imgs)
            ]
            require_distinct(images, [os.path.join(out_dir, 'vis', name) for name in names])
        if out_dir and not options['no_save_pred'] and not options['return_datasamples']:
            files = [image for image in images if isinstance(image, str)]
            stems = [os.path.splitext(os.path.basename(file))[0] for file in files]
            require_distinct(files, [os.path.join(out_dir, 'preds', f'{s}.json') for s in stems])

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


def list_images(folder: str) -> list[str]:
    """List the images of a folder of this file system, without those of its subfolders.

    Args:
        folder: The folder.

    Returns:
        Their paths, sorted; hidden files are left out.

    Raises:
        ValueError: There are none; the message names subfolders that have some.
    """
    found = [path for path in list_below(folder, IMG_EXTENSIONS) if not path.name.startswith('.')]
    images = [str(path) for path in found if path.parent == Path(folder)]
    if images:
        return images
    if not found:
        raise ValueError(f'{folder} holds no image; looked for {", ".join(IMG_EXTENSIONS)} files')
    subfolders = list(dict.fromkeys(str(path.parent) for path in found))
    more = f' and {len(subfolders) - 3} more' if len(subfolders) > 3 else ''
    raise ValueError(
        f'{folder} itself holds no image, but its subfolders do: {", ".join(subfolders[:3])}'
        f'{more}; give one of these folders, or a list of files'
    )


def require_distinct(images: Sequence[str | np.ndarray], files: Sequence[str]) -> None:
    """Check that each image is written to a file of its own.

    Args:
        images: Paths and arrays; a path may be there twice.
        files: The file of each.

    Raises:
        ValueError: Two images share one.
    """
    owners: dict[str, str | np.ndarray] = {}
    for image, file in zip(images, files, strict=True):
        owner = owners.setdefault(os.path.normcase(file), image)
        is_same = isinstance(image, str) and isinstance(owner, str) and owner == image
        if owner is not image and not is_same:
            raise ValueError(
                f'{name_of(owner)} and {name_of(image)} would both be written to {file}; '
                'nothing was written: use a call and an out_dir for each folder, or other names'
            )
