"""Average of the weights over the last part of the training, whatever its length."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook


@HOOKS.register_module()
class AnnealedEMAHook(EMAHook):
    """MMEngine's ``EMAHook`` with a momentum that suits trainings of any length.

    Step t has the momentum ``max(momentum, gamma / (gamma + t))``, so the average reaches back over
    about ``t / gamma`` steps and, in long trainings, over ``1 / momentum``. Validation uses the
    average, and checkpoints hold it as ``state_dict``, beside the trained weights. In any config::

        default_hooks = dict(ema=dict(type='AnnealedEMAHook'))

    or ``--cfg-options default_hooks.ema.type=AnnealedEMAHook``.

    Args:
        ema_type: Kind of average, of MMEngine.
        momentum: Least weight of a step.
        gamma: The larger, the shorter the average.
        update_buffers: Whether statistics of batch norms are averaged too.
        **kwargs: Arguments of ``EMAHook`` and of the kind of average.
    """

    def __init__(
        self,
        ema_type: str = 'MomentumAnnealingEMA',
        momentum: float = 2e-4,
        gamma: int = 10,
        update_buffers: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            ema_type, momentum=momentum, gamma=gamma, update_buffers=update_buffers, **kwargs
        )

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Resume the average; weights of ``load_from``, in any layout, are copied once loaded."""
        if runner._resume:
            super().after_load_checkpoint(runner, checkpoint)

    def before_train(self, runner: Any) -> None:
        """Begin with the weights that the training begins with."""
        super().before_train(runner)
        self.copy_weights()

    def before_val_epoch(self, runner: Any) -> None:
        """Validate with the average."""
        self.copy_weights()
        super().before_val_epoch(runner)

    def before_test_epoch(self, runner: Any) -> None:
        """Test with the average."""
        self.copy_weights()
        super().before_test_epoch(runner)

    def copy_weights(self) -> None:
        """Take over the model's weights unless an average exists already."""
        if self.ema_model.steps > 0:
            return
        average = self.ema_model.module
        average.load_state_dict(self.src_model.state_dict())
        # MMEngine lists the weights once; those of other classes have been replaced since.
        self.ema_model.avg_parameters = (
            average.state_dict()
            if self.ema_model.update_buffers
            else dict(average.named_parameters())
        )
