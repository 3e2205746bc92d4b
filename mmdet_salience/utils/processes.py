"""The end of a run of several processes."""

import gc

import torch.distributed
from mmengine.dist import is_distributed


def leave_process_group() -> None:
    """End the communication with the other processes, if any, while Python is still whole.

    The threads of ``gloo`` may hold on to tensors of Python for a moment after the last exchange. A
    process that ends in this moment is aborted (SIGABRT) or hangs, and its launcher reports that a
    finished training failed. The threads end with the last reference to the process group, and the
    wrapped model has one: call this when neither the model nor its runner are needed any more.
    """
    gc.collect()  # models and runners lie in cycles of references
    if is_distributed():
        torch.distributed.destroy_process_group()
