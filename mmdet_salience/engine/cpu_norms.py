"""Synchronised batch norm on a CPU, where PyTorch has none."""

from logging import Logger

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import nn


def without_sync_norms(model: nn.Module, cfg: Config, logger: Logger) -> nn.Module:
    """Let each process have its own batch norm statistics, and say so.

    Args:
        model: The model; its synchronised batch norms are replaced in place.
        cfg: Config of the run; ``sync_bn`` is taken out of it.
        logger: Where to say it.

    Returns:
        The model.
    """
    asked = cfg.pop('sync_bn', None) is not None
    if asked or any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        logger.warning(
            'SyncBN needs GPUs. On this CPU each process normalises its own batch, and the '
            'checkpoints hold the running statistics of process 0.'
        )
        model = revert_sync_batchnorm(model)
    return model
