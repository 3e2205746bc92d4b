"""Batch norm that survives maps of one value a channel."""

import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SingleValueSafeBN(nn.BatchNorm2d):
    """Batch norm for training on images so small that a level is one cell.

    One value has no variance, and ``nn.BatchNorm2d`` refuses it. Such a batch is normalised by the
    running statistics instead and leaves them as they are. Everything else, the weights' names
    included, is ``nn.BatchNorm2d``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise maps (B, C, H, W)."""
        if self.training and input.numel() == input.size(1):
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)
