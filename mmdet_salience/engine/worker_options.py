"""Options of dataloaders that only their workers need."""

from typing import Any

# PyTorch refuses these where the process itself loads the data.
WORKER_OPTIONS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


def without_idle_options(dataloader: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only workers need, where ``num_workers`` says that there are none.

    Args:
        dataloader: Config of a dataloader; it stays as it is.

    Returns:
        A config that PyTorch accepts.
    """
    if dataloader.get('num_workers', 0) != 0:
        return dataloader
    return {key: value for key, value in dataloader.items() if key not in WORKER_OPTIONS}
