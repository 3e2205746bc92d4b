"""Stop, or skip a step, where the loss or its gradient is no number."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, all_reduce, is_distributed
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..gradient_steps import has_stepped, optim_wrappers
from .batch_record import Suspect, save_suspect

REMEDY = (
    'Look at these files, lower the learning rate or clip gradients (optim_wrapper.clip_grad); '
    'default_hooks.non_finite.max_skips=N, an argument of NonFiniteLossHook, lets training pass '
    'over N such steps.'
)


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Keep the weights from steps whose loss or gradient is not finite.

    Such a step changes neither weights, nor the optimizer's state, nor the running statistics of
    batch norms. Its batch goes to ``work_dir/non_finite/iter_N_rankR.pth`` and training ends with
    an error that names iteration, images and loss terms, unless ``max_skips`` allows to go on. All
    processes decide alike. With accumulated gradients a step is bad if one of its batches is.

    Under float16 the gradient scaler skips steps on its own while it looks for its scale; these are
    no concern of this hook as long as the loss is finite.

    Args:
        max_skips: How many bad steps a run may have; the next one ends it.
        folder: Folder of the batches' files, in the work folder.

    Raises:
        ValueError: ``max_skips`` is negative.
    """

    # Before hooks that log, average or save what the step left behind.
    priority = 'HIGH'

    def __init__(self, max_skips: int = 0, folder: str = 'non_finite') -> None:
        if max_skips < 0:
            raise ValueError(f'NonFiniteLossHook: max_skips={max_skips} must be 0 or more')
        self.max_skips = max_skips
        self.folder = folder
        self.num_skipped = 0
        self._handles: list[Any] = []
        self._begin_step()

    def _begin_step(self) -> None:
        """Forget the last step."""
        self._stepped = False
        self._refused = False
        self._loss_is_bad: Tensor | None = None
        self._suspects: list[Suspect] = []
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Watch the losses and the optimizer's steps.

        Args:
            runner: The runner.
        """
        self._release()
        self._begin_step()
        self._handles.append(runner.model.register_forward_hook(self._watch_losses))
        for wrapper in optim_wrappers(runner):

            def guard(*_: Any, wrapper: OptimWrapper = wrapper) -> None:
                self._guard_step(wrapper)

            self._handles.append(wrapper.optimizer.register_step_pre_hook(guard))

    def _release(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the running statistics at the begin of a step.

        Args:
            runner: The runner.
            batch_idx: Number of the batch.
            data_batch: The batch.
        """
        if not self._statistics:
            self._statistics = [(b, b.clone()) for b in running_statistics(runner.model)]

    def _watch_losses(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        """Forward hook of the model: note whether the losses are finite, without waiting."""
        if isinstance(outputs, dict):
            terms = [value for name, value in outputs.items() if 'loss' in name]
            parts = [term.detach().flatten() for term in flat_tensors(terms)]
            if parts:
                bad = ~torch.cat(parts).isfinite().all()
                self._loss_is_bad = bad if self._loss_is_bad is None else bad | self._loss_is_bad

    def _guard_step(self, wrapper: OptimWrapper) -> None:
        """Take the gradients away from a step that would spoil the weights.

        Args:
            wrapper: Wrapper of the optimizer that is about to step.
        """
        self._stepped = True
        bad = self._loss_is_bad is not None and bool(self._loss_is_bad)
        # A fused optimizer under a gradient scaler looks after overflowing gradients itself.
        if getattr(wrapper.optimizer, 'found_inf', None) is None:
            bad = bad or not math.isfinite(gradient_norm(wrapper))
        if on_any_rank(bad):
            self._refused = True
            wrapper.optimizer.zero_grad(set_to_none=True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict[str, Any]
    ) -> None:
        """Report a bad step; end the training if there were too many.

        Args:
            runner: The runner.
            batch_idx: Number of the batch.
            data_batch: The batch.
            outputs: Loss terms by name.

        Raises:
            FloatingPointError: The step is bad and may not be skipped.
        """
        terms = {name: number(value) for name, value in outputs.items() if 'loss' in name}
        current = Suspect(runner.iter + 1, data_batch, terms)
        if not all(map(math.isfinite, terms.values())):
            self._suspects.append(current)
        if not has_stepped(runner):
            return
        if not self._stepped:  # the gradient scaler skipped the step, on all ranks
            bad = self._loss_is_bad is not None and bool(self._loss_is_bad)
            self._refused = on_any_rank(bad)
        if self._refused:
            self._put_back_statistics()
            self._report(runner, current)
        self._begin_step()

    @torch.no_grad()
    def _put_back_statistics(self) -> None:
        """Undo what the step did to running statistics."""
        for buffer, kept in self._statistics:
            buffer.copy_(kept)

    def _report(self, runner: Runner, current: Suspect) -> None:
        """Save the bad batches; stop, or warn and count.

        Args:
            runner: The runner.
            current: The step's last batch, to blame where all losses are finite.

        Raises:
            FloatingPointError: There were too many bad steps.
        """
        if not on_any_rank(bool(self._suspects)):
            self._suspects.append(current)
        folder = Path(runner.work_dir) / self.folder
        bad = all_gather_object([save_suspect(suspect, folder) for suspect in self._suspects])
        lines = '\n'.join(batch.describe() for batches in bad for batch in batches)
        if self.num_skipped == self.max_skips:
            raise FloatingPointError(
                'The loss or its gradient is not finite; the weights were left as they are.\n'
                f'{lines}\n{self.num_skipped} steps were skipped before, of max_skips='
                f'{self.max_skips}. {REMEDY}'
            )
        self.num_skipped += 1
        runner.logger.warning(
            'The loss or its gradient is not finite; step skipped '
            f'({self.num_skipped} of at most {self.max_skips}).\n{lines}'
        )

    def after_train(self, runner: Runner) -> None:
        """Log how many steps were skipped.

        Args:
            runner: The runner.
        """
        self._release()
        runner.logger.info(
            f'Steps skipped because the loss or its gradient was not finite: {self.num_skipped}.'
        )


def running_statistics(model: nn.Module) -> Iterator[Tensor]:
    """Buffers that a forward pass in training changes: those of batch norms that learn them."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.training:
            yield from module.buffers(recurse=False)


def number(value: Tensor | float) -> float:
    """A loss term as a Python number."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def flat_tensors(value: Any) -> Iterator[Tensor]:
    """Tensors in nested lists of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from flat_tensors(item)


def gradient_norm(wrapper: OptimWrapper) -> float:
    """Norm of the gradients before clipping; waits for the device.

    Args:
        wrapper: Wrapper of the optimizer, about to step.

    Returns:
        The norm that gradient clipping has just computed, else the 2-norm.
    """
    name = f'train/{getattr(wrapper, "grad_name", "grad_norm")}'
    if wrapper.clip_grad_kwargs and name in wrapper.message_hub.log_scalars:
        return float(wrapper.message_hub.get_scalar(name).current())
    weights = [w for group in wrapper.optimizer.param_groups for w in group['params']]
    return float(nn.utils.clip_grad_norm_(weights, math.inf))  # clips nothing


def on_any_rank(flag: bool) -> bool:
    """Whether a flag is set on any rank; all ranks have to ask."""
    if not is_distributed():
        return flag
    number = torch.tensor(float(flag))
    all_reduce(number, 'max')
    return bool(number)
