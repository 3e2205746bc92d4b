"""Turn a checkpoint of the authors' release into one with MMDetection's names and COCO's classes.

Release checkpoints also load as they are. A converted one carries class names, config and source,
and is read without this package's conversion.

Example:
    python tools/model_converters/release_to_mmdet.py salience_detr_swin_l_800_1333_coco_1x.pth
"""

import argparse
import copy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _own_package

import _own_package  # noqa: F401  # before MMDetection
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS

from mmdet_salience.apis.model_zoo import ZooModel, read_models, zoo_root
from mmdet_salience.datasets.config_data import split_datasets
from mmdet_salience.utils.checkpoints import RELEASE_MARK, describe, unwrap
from mmdet_salience.utils.publishing import (
    file_sha256,
    read_weights_only,
    resolve_target,
    save_hashed,
)
from mmdet_salience.version import __version__

NUM_EXAMPLES = 3


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description="Turn a checkpoint of the authors' release into MMDetection's form."
    )
    parser.add_argument('source', type=Path, metavar='SRC', help="the release's checkpoint")
    parser.add_argument(
        'out',
        type=Path,
        nargs='?',
        metavar='OUT',
        help='file to write, whose name gets "-" and eight digits of its SHA-256, or folder; by '
        'default the name of the config, beside SRC',
    )
    parser.add_argument(
        '--config', help='config of the model; known by itself for the five files of the release'
    )
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='write what fits although weights are missing or left over',
    )
    return parser


def find_release(name: str) -> ZooModel | None:
    """Find a published model by the name of its checkpoint.

    Args:
        name: File name.

    Returns:
        The entry of the metafiles, None if there is none.
    """
    models = read_models(zoo_root()).values()
    return next((model for model in models if model.weights.endswith(f'/{name}')), None)


def choose_config(source: Path, config: str | None, release: ZooModel | None) -> Path:
    """Decide which config a checkpoint belongs to.

    Args:
        source: The checkpoint.
        config: What the command line says.
        release: What the name of the checkpoint says.

    Returns:
        The config.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Neither says anything.
    """
    if config is None and release is None:
        names = ', '.join(Path(model.weights).name for model in read_models(zoo_root()).values())
        raise ValueError(
            f'the name {source.name} does not tell the model; give its config by --config '
            f'configs/salience_detr/... (known by name: {names})'
        )
    path = Path(config) if config is not None else release.config
    if not path.is_file():
        raise FileNotFoundError(f'there is no config file {path}; check --config')
    return path


def read_release(source: Path) -> dict[str, Tensor]:
    """Read the weights of a release checkpoint.

    Args:
        source: The file.

    Returns:
        Weights by the release's names.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint of the release.
    """
    content = read_weights_only(source)
    own = 'meta' in content and 'state_dict' in content
    unwrap(content)
    weights = {str(name).removeprefix('module.'): value for name, value in content.items()}
    if RELEASE_MARK in weights:
        return weights
    if own:
        raise ValueError(
            f"{source} is a checkpoint of MMEngine and has MMDetection's names already; "
            'tools/model_converters/publish_model.py makes it ready to hand out'
        )
    raise ValueError(
        f'{source} is no checkpoint of the Salience DETR release: it looks like '
        f'{describe(weights)} and has no "{RELEASE_MARK}". The five files of the release are '
        'listed in docs/checkpoints.md'
    )


def build_model(cfg: Config) -> nn.Module:
    """Build the detector of a config, without pretrained weights.

    Args:
        cfg: The config.

    Returns:
        The detector.
    """
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    return MODELS.build(copy.deepcopy(cfg.model))  # which building changes


def list_names(names: Sequence[str], what: str) -> str:
    """Count names and show the first ones, for a message.

    Args:
        names: The names.
        what: What is the matter with them.

    Returns:
        A phrase.
    """
    shown = ', '.join(names[:NUM_EXAMPLES]) + (', ...' if len(names) > NUM_EXAMPLES else '')
    return f'{len(names)} {what} ({shown})'


def convert_weights(
    weights: Mapping[str, Tensor], model: nn.Module, check: bool = True
) -> dict[str, Tensor]:
    """Load a release's weights into a model and take them out by its names.

    Args:
        weights: Weights by the release's names.
        model: The detector, whose loading converts them.
        check: Whether missing and left-over weights are an error; else they are printed.

    Returns:
        Weights by the model's names.

    Raises:
        ValueError: The weights belong to another model.
    """
    try:
        result = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # torch: one line for each weight of another shape
        lines = [line.strip() for line in str(error).splitlines() if 'size mismatch' in line]
        names = [line.removeprefix('size mismatch for ').split(':')[0] for line in lines]
        raise ValueError(list_names(names, 'have another shape') if names else error) from error
    missing = [name for name in result.missing_keys if not name.endswith('num_batches_tracked')]
    problems = [
        list_names(names, what)
        for names, what in ((missing, 'are missing'), (result.unexpected_keys, 'are left over'))
        if names
    ]
    if problems and check:
        raise ValueError(' and '.join(problems))
    for problem in problems:
        print(f'weights: {problem}')
    return {name: value for name, value in model.state_dict().items() if name not in missing}


def describe_classes(cfg: Config, num_classes: int) -> dict[str, Any]:
    """Name the classes of the converted weights.

    Args:
        cfg: The config.
        num_classes: Class rows.

    Returns:
        ``dataset_meta`` of the checkpoint.

    Raises:
        ValueError: The names are not known.
    """
    stated = [dict(dataset.get('metainfo') or {}) for dataset in split_datasets(cfg, 'test')]
    for metainfo in [*stated, CocoDataset.METAINFO]:
        if len(metainfo.get('classes') or ()) == num_classes:
            palette = metainfo.get('palette')
            named = dict(classes=tuple(metainfo['classes']))
            return named if palette is None else dict(named, palette=[tuple(c) for c in palette])
    raise ValueError(
        f'the weights have {num_classes} classes, whose names are not known; state them in the '
        'config, test_dataloader.dataset.metainfo=dict(classes=(...))'
    )


def convert(args: argparse.Namespace) -> Path:
    """Do what the command line says.

    Args:
        args: The command line.

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: A file or folder is not there.
        FileExistsError: The result is there already.
        ValueError: Checkpoint and config do not fit, or one of them is unsuitable.
    """
    source, release = args.source, find_release(args.source.name)
    weights = read_release(source)
    config = choose_config(source, args.config, release)
    target = resolve_target(args.out, source, config.stem)
    cfg = Config.fromfile(config)
    model = build_model(cfg)
    try:
        state_dict = convert_weights(weights, model, not args.no_check)
    except ValueError as error:
        raise ValueError(
            f'{source} does not fit {config}; of its weights {error}. Give the config that it was '
            'trained with by --config'
        ) from error
    origin = dict(file=source.name, sha256=file_sha256(source))
    if release is not None:
        origin['url'] = release.weights
    meta = dict(
        dataset_meta=describe_classes(cfg, model.bbox_head.num_classes),
        cfg=cfg.pretty_text,
        config=config.name,
        source=origin,
        mmdet_salience_version=__version__,
        mmengine_version=mmengine.__version__,
    )
    path = save_hashed(dict(meta=meta, state_dict=state_dict), target)
    print(
        f'{path}: {len(state_dict)} weights, {len(meta["dataset_meta"]["classes"])} classes, '
        f'{path.stat().st_size / 1e6:.1f} MB'
    )
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Convert.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: With a message if a file is missing, unsuitable or in the way.
    """
    try:
        convert(build_parser().parse_args(argv))
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
