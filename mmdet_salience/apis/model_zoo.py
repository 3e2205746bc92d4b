"""The models of the metafiles: configs and weights by name.

MMEngine finds models by name for the packages that it knows, and this one is not among them.
"""

from pathlib import Path
from typing import NamedTuple

from mmengine.fileio import load

PACKAGE = Path(__file__).resolve().parents[1]
INDEX = 'model-index.yml'


class ZooModel(NamedTuple):
    """A published model."""

    name: str
    """Its name, the stem of its config."""
    config: Path
    """Its config, in the checkout or in the installed package."""
    weights: str
    """Address of its checkpoint."""


def zoo_root() -> Path:
    """Folder that holds ``configs`` and the index of models.

    Returns:
        ``.mim`` of an installed package, the checkout of an editable one.

    Raises:
        FileNotFoundError: The installation has neither.
    """
    for folder in (PACKAGE / '.mim', PACKAGE.parent):
        if (folder / INDEX).is_file():
            return folder
    raise FileNotFoundError(
        f'there is no {INDEX} beside or in {PACKAGE}; install mmdetection-salience from a wheel or '
        'with "pip install -e"'
    )


def read_models(root: Path) -> dict[str, ZooModel]:
    """Read the metafiles.

    Args:
        root: Folder of the index.

    Returns:
        The models by their names.
    """
    index = load(root / INDEX)
    models = {}
    metafiles = [path for pattern in index['Import'] for path in sorted(root.glob(pattern))]
    for metafile in metafiles:
        for entry in load(metafile)['Models']:
            config = root / entry['Config']
            models[entry['Name']] = ZooModel(entry['Name'], config, entry['Weights'])
    return models


def list_models() -> tuple[str, ...]:
    """Names of the published models."""
    return tuple(read_models(zoo_root()))


def find_model(name: str) -> ZooModel:
    """Find a published model.

    Args:
        name: Its name, the stem of its config, in any case; ``.py`` may follow.

    Returns:
        Its config and weights, for ``init_detector(str(model.config), model.weights)``.

    Raises:
        ValueError: There is no such model; the message lists all.
    """
    models = read_models(zoo_root())
    key = name.lower().removesuffix('.py')
    if key not in models:
        raise ValueError(
            f'there is no published model {name}; there are {", ".join(models)}. A config without '
            'published weights is used by its path.'
        )
    return models[key]
