"""Images, data and model of the tool that shows what a Salience DETR looks at."""

import os
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from mmdet.apis import init_detector
from mmdet.models.detectors import BaseDetector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mmdet_salience.apis.inspection import check_model
from mmdet_salience.datasets.config_data import split_datasets
from mmdet_salience.datasets.file_lists import list_below
from mmdet_salience.engine import fit_to_data

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def find_images(paths: Sequence[str], out_dir: Path) -> list[Path]:
    """Find images.

    Args:
        paths: Image files, and folders that are searched with all that is in them.
        out_dir: Folder of earlier results, which are left out.

    Returns:
        The files, each once, those of a folder by name.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: There is no image in the folders.
    """
    found: list[Path] = []
    results = Path(os.path.realpath(out_dir))
    for path in map(Path, paths):
        if os.path.isdir(path):
            files = list_below(path, IMAGE_SUFFIXES)
            found += [file for file in files if results not in Path(os.path.realpath(file)).parents]
        elif os.path.lexists(path):
            found.append(path)
        else:
            raise FileNotFoundError(f'there is no image or folder {path}; check --images')
    if not found:
        raise ValueError(
            f'no image in {", ".join(paths)}; looked for {", ".join(IMAGE_SUFFIXES)} files'
        )
    return list(dict.fromkeys(found))


def split_config(cfg: Config, split: str) -> Config:
    """Make a config that tests on one split.

    Args:
        cfg: The config; it stays as it is.
        split: ``'val'``, ``'test'`` or ``'train'``; training images come without augmentation.

    Returns:
        The config, fitted to the data.

    Raises:
        FileNotFoundError: The annotation file is missing.
        ValueError: The split is no single dataset, or contradicts the model.
    """
    datasets = split_datasets(cfg, split)
    if len(datasets) != 1:
        raise ValueError(
            f'{split}_dataloader of {cfg.filename} has {len(datasets)} datasets, but one is '
            'needed; choose another --split, or show files with --images'
        )
    dataset = deepcopy(datasets[0])
    if split == 'train':
        dataset.pipeline = deepcopy(get_test_pipeline_cfg(cfg))
    dataset.test_mode = True  # keeps images without objects
    settings = dict(
        default_scope='mmdet',
        custom_imports=deepcopy(cfg.get('custom_imports')),
        model=deepcopy(cfg.model),
        test_dataloader=dict(dataset=dataset),
    )
    result = Config(settings)
    fit_to_data(result, ['test'])
    init_default_scope('mmdet')
    return result


def load_model(
    cfg: Config, checkpoint: str, device: str, classes: Sequence[str] = ()
) -> BaseDetector:
    """Load a detector that can be inspected.

    Args:
        cfg: Its config.
        checkpoint: Path or address of its weights.
        device: Where it runs.
        classes: Classes of the data; those of the checkpoint, if empty.

    Returns:
        The detector in evaluation mode; ``dataset_meta['classes']`` names its classes.

    Raises:
        ValueError: It cannot be inspected, or weights, model and data do not fit together.
    """
    with warnings.catch_warnings(record=True):  # that there are no weights yet
        model = init_detector(deepcopy(cfg), None, palette='random', device=device)
    check_model(model)
    try:
        loaded = load_checkpoint(model, checkpoint, map_location='cpu')
    except ValueError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = str(error).strip().splitlines() or ['']
        raise ValueError(
            f'{checkpoint} cannot be read as a checkpoint: {type(error).__name__}: {reason[0]}'
        ) from error
    trained = trained_classes(loaded)
    check_classes(trained, classes, model.bbox_head.num_classes, checkpoint)
    fallback = model.dataset_meta['classes']  # COCO's
    if len(fallback) != model.bbox_head.num_classes:
        fallback = ()  # they have numbers only
    model.dataset_meta = dict(classes=tuple(classes) or trained or tuple(fallback))
    return model


def trained_classes(checkpoint: dict) -> tuple[str, ...]:
    """Class names that a checkpoint was trained for, none if it does not say."""
    meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    return tuple(meta.get('classes') or meta.get('CLASSES') or ())


def check_classes(
    trained: Sequence[str], classes: Sequence[str], num_classes: int, checkpoint: str
) -> None:
    """Make sure that weights, model and data mean the same classes.

    Args:
        trained: Classes of the weights, none if unknown.
        classes: Classes of the data, none if there are only images.
        num_classes: Classes of the model.
        checkpoint: The weights' file, for the message.

    Raises:
        ValueError: They differ.
    """
    if trained and len(trained) != num_classes:
        raise ValueError(
            f'{checkpoint} was trained for {len(trained)} classes, and the config has '
            f'{num_classes}; use the config of that training, or --cfg-options '
            'model.bbox_head.num_classes=None'
        )
    if trained and classes and tuple(trained) != tuple(classes):
        raise ValueError(
            f'{checkpoint} was trained for {", ".join(trained)}, but the data has '
            f'{", ".join(classes)}; choose data of those classes, or show files with --images'
        )
