"""Backbones of Hugging Face's transformers, with the switches that mmdet's backbones have."""

from collections.abc import Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...utils.backbone_checkpoints import (
    convert_backbone,
    focalnet_to_transformers,
    torchvision_convnext_to_transformers,
)
from .library_models import build_model, describe_model, load_weights
from .library_stages import (
    compute_maps,
    examine_maps,
    find_downsampling,
    find_stages,
    find_stem,
)


@MODELS.register_module()
class TransformersBackbone(BaseModule):
    """A hierarchical model of transformers, such as ConvNeXt, DINOv3-ConvNeXt, Swin or SegFormer.

    The maps of its stages must halve from one to the next, which a small image shows when it is
    built. Parameters on which no map depends (stages behind the last map, a classifier's norm) are
    frozen.

    Weights come from ``pretrained`` (the library's format) or from ``init_cfg`` (``Pretrained``, a
    file or an address), when weights are initialised and not before: with a ``model_type``, a
    trained detector needs neither. ConvNeXt files in torchvision's layout load as they are.

    Args:
        config: ``model_type`` and settings of the architecture, by the library's names. With
            ``pretrained`` and without ``model_type``, settings that differ from those of the
            weights.
        out_indices: Stages whose maps are returned, from 0.
        frozen_stages: Freezes the stem from 0 on, and that many stages with the downsampling after
            them; -1 freezes nothing.
        norm_eval: Whether batch norms keep their statistics in training.
        output_norm: Whether the maps go through a norm of their own; None: as in the library.
        pretrained: Name on the Hugging Face hub, or folder, of weights in the library's format.
        with_cp: Whether to save memory by computing activations twice.
        init_cfg: As everywhere in MMEngine.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: ``pretrained`` can neither be found nor downloaded.
        ValueError: The library has no such model, the model no stages, or no such stage or norm.
    """

    model: Any

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        out_indices: Sequence[int] = (1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        output_norm: bool | None = None,
        pretrained: str | None = None,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if pretrained is not None and init_cfg is not None:
            raise ValueError('set backbone.pretrained or backbone.init_cfg, not both')
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.pretrained = pretrained
        self.config = dict(config or {})
        source = None if 'model_type' in self.config else pretrained
        described = describe_model(self.config, source, self.out_indices)
        self.num_stages = len(described.depths)
        if frozen_stages > self.num_stages:
            raise ValueError(
                f'backbone.frozen_stages={frozen_stages}, but the backbone has {self.num_stages} '
                'stages'
            )
        self.model = build_model(described)
        if output_norm is not None:
            self.set_output_norm(output_norm)
        self.channels = examine_maps(self, described, self.out_indices)
        if with_cp:
            self.enable_checkpointing()
        self.train()

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the maps, finest first: the neck's ``in_channels``."""
        return self.channels

    @property
    def stem(self) -> nn.Module:
        """What comes before the blocks of the first stage."""
        return find_stem(self.model, self.num_stages)

    @property
    def stages(self) -> Sequence[nn.Module]:
        """The stages, finest first."""
        return find_stages(self.model, self.num_stages)

    def set_output_norm(self, enabled: bool) -> None:
        """Keep or drop the library's norms of the maps.

        Args:
            enabled: Whether the maps are normalised.

        Raises:
            ValueError: The library's backbone has no such norms.
        """
        norms = getattr(self.model, 'hidden_states_norms', None)
        if norms is None:
            raise ValueError(
                f'backbone.output_norm={enabled}, but {type(self.model).__name__} of transformers '
                'has no norms of its outputs; leave output_norm out'
            )
        if not enabled:
            for name in norms:
                norms[name] = nn.Identity()

    def enable_checkpointing(self) -> None:
        """Compute activations twice to save memory.

        Raises:
            ValueError: The library does not offer it for this backbone.
        """
        if not self.model.supports_gradient_checkpointing:
            raise ValueError(
                f'backbone.with_cp=True, but {type(self.model).__name__} of transformers cannot '
                'compute activations twice; leave with_cp out'
            )
        self.model.gradient_checkpointing_enable(dict(use_reentrant=False))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            images: (B, 3, H, W).

        Returns:
            Maps (B, C_i, H_i, W_i) of the stages in ``out_indices``.
        """
        return compute_maps(self.model, images, self.out_indices)

    def init_weights(self) -> None:
        """Load ``init_cfg`` or ``pretrained``; without them the weights stay as they were made.

        Raises:
            FileNotFoundError: ``pretrained`` can neither be found nor downloaded.
            ValueError: Its weights are those of another architecture.
        """
        if self.init_cfg:
            super().init_weights()
        elif self.pretrained is not None:
            load_weights(self.model, self.config, self.pretrained, self.out_indices)

    def train(self, mode: bool = True) -> 'TransformersBackbone':
        """Switch to training, except for what is frozen."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        """Keep frozen parts in evaluation mode and without gradients."""
        if self.frozen_stages < 0:
            return
        frozen = [self.stem, *self.stages[: self.frozen_stages]]
        if 0 < self.frozen_stages < self.num_stages:
            frozen.append(find_downsampling(self.stages[self.frozen_stages]))
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def _load_from_state_dict(self, state_dict: MutableMapping, prefix: str, *args: Any) -> None:
        """Accept the layout of torchvision's ConvNeXt wherever weights are loaded."""
        convert_backbone(
            state_dict, prefix, 'features.0.0.weight', torchvision_convnext_to_transformers, self
        )
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class FocalNetBackbone(TransformersBackbone):
    """FocalNet of transformers with maps from before the downsampling, as in the release.

    The library's own backbone returns maps from after a stage's downsampling, which lie one stage
    lower. Files in the original authors' layout load as they are.

    Args:
        config: Settings of the architecture, by the library's names, without ``model_type``.
        out_indices: Stages whose maps are returned, from 0.
        output_norm: Whether each map goes through a LayerNorm; None: yes.
        **kwargs: Arguments of :class:`TransformersBackbone`.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        out_indices: Sequence[int] = (1, 2, 3),
        output_norm: bool | None = None,
        **kwargs: Any,
    ) -> None:
        config = dict(config or {}, model_type='focalnet')
        if 'embed_dim' in config:  # the library does not derive the one from the other
            depths = config.get('depths', (2, 2, 6, 2))
            config['hidden_sizes'] = [config['embed_dim'] * 2**i for i in range(len(depths))]
        if output_norm is None:
            output_norm = True
        super().__init__(config, out_indices, output_norm=output_norm, **kwargs)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the maps, finest first."""
        return tuple(self.model.config.embed_dim * 2**index for index in self.out_indices)

    @property
    def stem(self) -> nn.Module:
        """What comes before the first stage."""
        return self.model.focalnet.embeddings

    @property
    def stages(self) -> Sequence[nn.Module]:
        """The stages, each with its downsampling, finest first."""
        return self.model.focalnet.encoder.stages

    def set_output_norm(self, enabled: bool) -> None:
        """Give each map a LayerNorm, or none; ``enabled`` says which."""
        norms = [nn.LayerNorm(width) if enabled else nn.Identity() for width in self.out_channels]
        self.output_norms = nn.ModuleList(norms)
        self.model.focalnet.layernorm = nn.Identity()  # the classifier's
        self.model.focalnet.pooler = None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            images: (B, 3, H, W).

        Returns:
            Maps (B, C_i, H_i, W_i) of the stages in ``out_indices``.
        """
        tokens, shape = self.stem(images)
        outputs = []
        for index, stage in enumerate(self.stages):
            tokens, before, next_shape = stage(tokens, shape)
            if index in self.out_indices:
                norm = self.output_norms[self.out_indices.index(index)]
                outputs.append(norm(before).unflatten(1, shape).movedim(-1, 1).contiguous())
            shape = next_shape[-2:]
        return tuple(outputs)

    def _load_from_state_dict(self, state_dict: MutableMapping, prefix: str, *args: Any) -> None:
        """Accept the layout of the original FocalNet, and of the release, wherever loaded."""
        rename = partial(focalnet_to_transformers, out_indices=self.out_indices)
        convert_backbone(state_dict, prefix, 'patch_embed.proj.weight', rename, self)
        super()._load_from_state_dict(state_dict, prefix, *args)
