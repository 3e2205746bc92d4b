"""Optimizer groups and warm-up of the authors' recipe (spec section 13)."""

from typing import Any

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS
from mmengine.optim import DefaultOptimWrapperConstructor, LinearLR
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ByNameOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Choose the options of each parameter by its name, one option at a time.

    MMEngine's default constructor applies the longest matching entry of ``custom_keys`` and ignores
    all others, so a bias of the backbone cannot have the backbone's learning rate and the decay of
    a bias. Here every option (``lr_mult``, ``decay_mult``, ...) comes from the longest entry that
    matches and has it::

        paramwise_cfg = dict(custom_keys={
            'backbone': dict(lr_mult=0.1), 'bias': dict(decay_mult=0.0)})

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper.
        paramwise_cfg: ``custom_keys`` and nothing else.

    Raises:
        ValueError: ``paramwise_cfg`` has another key.
    """

    def _validate_cfg(self) -> None:
        """Accept ``custom_keys`` only; other rules would depend on the kind of module."""
        super()._validate_cfg()
        unknown = sorted(set(self.paramwise_cfg) - {'custom_keys'})
        if unknown:
            raise ValueError(
                f'optim_wrapper.paramwise_cfg has {", ".join(unknown)}, but {type(self).__name__} '
                "goes by names: write custom_keys={'bias': dict(decay_mult=0.0)}, or drop "
                'optim_wrapper.constructor'
            )

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add one group per trained parameter of a module to ``params``, in place."""
        for name, parameter in module.named_parameters(prefix=prefix):
            if parameter.requires_grad:
                params.append(dict(params=[parameter], **self.options_of(name)))

    def options_of(self, name: str) -> dict[str, Any]:
        """Options of the parameter called ``name``, as an optimizer takes them."""
        keys = self.paramwise_cfg.get('custom_keys', {})
        options: dict[str, Any] = {}
        for key in sorted(keys, key=len):
            if key in name:
                options.update(keys[key])
        lr_mult, decay_mult = options.pop('lr_mult', 1.0), options.pop('decay_mult', 1.0)
        if self.base_lr is not None:
            options['lr'] = self.base_lr * lr_mult
        if self.base_wd is not None:
            options['weight_decay'] = self.base_wd * decay_mult
        return options


@PARAM_SCHEDULERS.register_module()
class FirstEpochWarmupLR(LinearLR):
    """Raise the learning rate linearly during the first epoch.

    Made for ``by_epoch=True, convert_to_iter_based=True``, through which MMEngine tells it the
    length of an epoch. The full rate is reached after ``min(max_steps, steps of the epoch - 1)``
    steps.

    Raises:
        ValueError: ``convert_to_iter_based`` is missing.
    """

    def __init__(self, *args: Any, max_steps: int | None = None, **kwargs: Any) -> None:
        if max_steps is not None:
            raise ValueError(
                'param_scheduler: FirstEpochWarmupLR needs by_epoch=True and '
                'convert_to_iter_based=True, to be told the length of an epoch'
            )
        super().__init__(*args, **kwargs)

    @classmethod
    def build_iter_from_epoch(
        cls,
        *args: Any,
        max_steps: int = 1000,
        epoch_length: int,
        start_factor: float = 0.001,
        by_epoch: bool = True,
        begin: int = 0,
        end: int = 1,
        **kwargs: Any,
    ) -> 'FirstEpochWarmupLR':
        """Build the scheduler for epochs of a known length.

        Args:
            *args: The optimizer.
            max_steps: Most steps of the warm-up.
            epoch_length: Steps of an epoch.
            start_factor: Share of the learning rate at the first step.
            by_epoch: As MMEngine passes it; the scheduler counts steps.
            begin: As MMEngine passes it; the warm-up begins with the training.
            end: The same; it ends within the first epoch.
            **kwargs: Arguments of MMEngine's ``LinearLR``.

        Returns:
            The scheduler. An epoch of one step has no warm-up.
        """
        steps = min(max_steps, epoch_length - 1)
        # MMEngine counts the step that has the full rate: two steps are the fewest it can divide.
        return cls(
            *args,
            start_factor=start_factor if steps > 0 else 1.0,
            by_epoch=False,
            begin=0,
            end=max(steps, 1) + 1,
            **kwargs,
        )
