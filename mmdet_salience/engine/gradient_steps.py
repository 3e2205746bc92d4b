"""Steps of the optimizers of a run, which with accumulated gradients take several batches."""

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner


def optim_wrappers(runner: Runner) -> list[OptimWrapper]:
    """Optimizer wrappers of a runner, usually one."""
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def has_stepped(runner: Runner) -> bool:
    """Whether no gradients of the last batch are left that wait for those of the next one."""
    return all(wrapper.should_update() for wrapper in optim_wrappers(runner))
