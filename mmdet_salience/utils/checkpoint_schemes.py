"""Let MMEngine read checkpoints safely, wherever it reads them.

``load_from``, ``load_checkpoint``, ``init_detector``, inferencers and ``init_cfg`` all end in
MMEngine's ``CheckpointLoader``. The OneDL fork falls back to plain pickle there with a warning, and
the original has nothing else. Importing this module puts :func:`load_safely` in the place of both,
for files, web addresses, object stores and named models. MMEngine logs what follows "load_from_"
in the names of the functions.
"""

from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_local_path
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    _process_mmcls_checkpoint,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from .safe_load import CheckpointFileError, load_safely


def download(url: str) -> Path:
    """Download a checkpoint into PyTorch's cache, unless it is there.

    Args:
        url: The address.

    Returns:
        The file.
    """
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))  # into a temporary file, then moved
    return path


@CheckpointLoader.register_scheme('', force=True)
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint of this file system.

    Args:
        filename: Its path.
        map_location: As for ``torch.load``.

    Returns:
        The checkpoint.
    """
    return load_safely(filename, map_location)


@CheckpointLoader.register_scheme(('http://', 'https://'), force=True)
def load_from_http(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint by its address; of several processes the first downloads it.

    Args:
        filename: The address.
        map_location: As for ``torch.load``.

    Returns:
        The checkpoint.
    """
    if get_rank() == 0:
        download(filename)
    barrier()
    return load_safely(download(filename), map_location)


@CheckpointLoader.register_scheme(('modelzoo://', 'torchvision://'), force=True)
def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """Load torchvision's weights.

    Args:
        filename: ``torchvision://`` and the name of a model.
        map_location: As for ``torch.load``.

    Returns:
        The checkpoint.
    """
    return load_from_http(get_torchvision_models()[filename.split('://')[1]], map_location)


@CheckpointLoader.register_scheme(('open-mmlab://', 'openmmlab://'), force=True)
def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """Load weights of OpenMMLab's list.

    Args:
        filename: ``open-mmlab://`` and the name of a model.
        map_location: As for ``torch.load``.

    Returns:
        The checkpoint.
    """
    name = filename.split('://')[1]
    address = get_external_models()[get_deprecated_model_names().get(name, name)]
    return CheckpointLoader.load_checkpoint(address, map_location)


@CheckpointLoader.register_scheme('mmcls://', force=True)
def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """Load a backbone of MMClassification's list.

    Args:
        filename: ``mmcls://`` and the name of a model.
        map_location: As for ``torch.load``.

    Returns:
        The backbone's weights.
    """
    checkpoint = load_from_http(get_mmcls_models()[filename.split('://')[1]], map_location)
    return _process_mmcls_checkpoint(checkpoint)


@CheckpointLoader.register_scheme((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), force=True)
def load_from_ceph(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint of an object store.

    Args:
        filename: Its address.
        map_location: As for ``torch.load``.

    Returns:
        The checkpoint.
    """
    with get_local_path(filename, backend_args=dict(backend='petrel')) as path:
        return load_safely(path, map_location)


@CheckpointLoader.register_scheme('pavi://', force=True)
def refuse_pavi(filename: str, map_location: Any = None) -> NoReturn:
    """Refuse a checkpoint of a service whose client reads it in a way of its own.

    Args:
        filename: Its address.
        map_location: Not used.

    Raises:
        CheckpointFileError: Always.
    """
    raise CheckpointFileError(f'{filename} is not read; download the file and give its path')
