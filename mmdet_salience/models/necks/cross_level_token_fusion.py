"""Path aggregation over the encoder's tokens (paper section 3.3, spec section 5)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule, caffe2_xavier_init
from torch import Tensor, nn


class ContextGate(nn.Module):
    """Channel gate from an attention-pooled context.

    Args:
        channels: Channels of the map.
        reduction: The hidden layer has ``channels // reduction`` channels.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, 1, 1)
        self.excite = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, feat: Tensor) -> Tensor:
        """Gate the channels of a map (B, C, H, W)."""
        weight = self.attention(feat).flatten(2).softmax(dim=-1)  # (B, 1, H*W)
        context = feat.flatten(2) @ weight.transpose(1, 2)  # (B, C, 1)
        return feat * self.excite(context[..., None])


class ReparamUnit(nn.Module):
    """Parallel grouped 3x3 and 1x1 convolutions, gated, with a shortcut.

    Args:
        channels: Channels of the map.
        groups: Groups of both convolutions.
        norm_cfg: Config of the norm.
        act_cfg: Config of the activation.
    """

    def __init__(self, channels: int, groups: int, norm_cfg: dict, act_cfg: dict) -> None:
        super().__init__()
        self.conv1 = ConvModule(
            channels, channels, 3, padding=1, groups=groups, norm_cfg=norm_cfg, act_cfg=None
        )
        self.conv2 = ConvModule(
            channels, channels, 1, groups=groups, norm_cfg=norm_cfg, act_cfg=None
        )
        self.activate = MODELS.build(act_cfg)
        self.gate = ContextGate(channels)

    def forward(self, feat: Tensor) -> Tensor:
        """Transform a map (B, C, H, W)."""
        return feat + self.gate(self.activate(self.conv1(feat) + self.conv2(feat)))


class FusionBlock(nn.Module):
    """Fuse two concatenated maps: 2C channels in, C out.

    Args:
        channels: Channels C of each map.
        num_units: Re-parameterisable units of the first branch.
        groups: Groups of the units' convolutions.
        norm_cfg: Config of the norm.
        act_cfg: Config of the activation.
    """

    def __init__(
        self, channels: int, num_units: int, groups: int, norm_cfg: dict, act_cfg: dict
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(2 * channels, channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv2 = ConvModule(2 * channels, channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.units = nn.Sequential(
            *(ReparamUnit(channels, groups, norm_cfg, act_cfg) for _ in range(num_units))
        )

    def forward(self, *maps: Tensor) -> Tensor:
        """Fuse maps (B, C, H, W) of equal size."""
        feat = torch.cat(maps, dim=1)
        return self.units(self.conv1(feat)) + self.conv2(feat)


@MODELS.register_module()
class CrossLevelTokenFusion(BaseModule):
    """Top-down, then bottom-up fusion of the levels.

    Entry i of each module list works between level i and level i + 1.

    Args:
        in_channels: Channels C of every level.
        num_levels: Number of levels, L.
        num_units: Re-parameterisable units a block.
        groups: Groups of the units' convolutions.
        norm_cfg: Config of the norm; ``dict(type='SyncBN')`` for several processes.
        act_cfg: Config of the activation.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        in_channels: int = 256,
        num_levels: int = 4,
        num_units: int = 3,
        groups: int = 4,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_levels = num_levels
        norm_cfg = norm_cfg or dict(type='mmdet.SingleValueSafeBN')
        act_cfg = act_cfg or dict(type='SiLU', inplace=True)
        block = (in_channels, num_units, groups, norm_cfg, act_cfg)
        conv = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        steps = range(num_levels - 1)
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels, in_channels, 1, **conv) for _ in steps
        )
        self.top_down_blocks = nn.ModuleList(FusionBlock(*block) for _ in steps)
        self.downsample_convs = nn.ModuleList(
            ConvModule(in_channels, in_channels, 3, stride=2, padding=1, **conv) for _ in steps
        )
        self.bottom_up_blocks = nn.ModuleList(FusionBlock(*block) for _ in steps)

    def init_weights(self) -> None:
        """Kaiming-uniform (a = 1) convolutions with zero bias."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                caffe2_xavier_init(module)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the levels.

        Args:
            maps: (B, C, H, W) of each level, finest first.

        Returns:
            Fused maps of the same sizes.
        """
        high = maps[-1]
        laterals = []
        top_down = reversed(list(zip(maps, self.lateral_convs, self.top_down_blocks, strict=False)))
        for low, lateral, fuse in top_down:
            high = lateral(high)
            laterals.append(high)
            high = fuse(F.interpolate(high, size=low.shape[2:], mode='nearest'), low)
        outputs = [high]
        for high, downsample, fuse in zip(
            reversed(laterals), self.downsample_convs, self.bottom_up_blocks, strict=True
        ):
            outputs.append(fuse(downsample(outputs[-1]), high))
        return tuple(outputs)
