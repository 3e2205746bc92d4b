"""Multiply-adds of a forward pass by part of the detector, and the tokens of its encoder layers.

PyTorch's counter sees convolutions and matrix products. It does not see deformable sampling, which
is counted here by a formula and kept apart.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from .detectors import ImageBatch, detect

PARTS = ('backbone', 'neck', 'predictor', 'encoder', 'fusion', 'decoder', 'heads', 'other')

# What a detector's direct children belong to; of the others, names in _head are heads.
PART_OF_CHILD = dict(
    backbone='backbone',
    neck='neck',
    salience_predictor='predictor',
    encoder='encoder',
    token_fusion='fusion',
    decoder='decoder',
    memory_trans_fc='projection',
    memory_trans_norm='projection',
    pos_trans_fc='heads',
    pos_trans_norm='heads',
    reference_points_fc='heads',
)


class ForwardWork(NamedTuple):
    """Work of a detector for one image.

    Attributes:
        by_part: Multiply-adds of convolutions and matrix products by the names in ``PARTS``.
        sampling: Multiply-adds of deformable sampling, by formula; part of no other number.
        layer_tokens: Tokens that each encoder layer updates, none without an encoder.
    """

    by_part: dict[str, int]
    sampling: int
    layer_tokens: tuple[int, ...]

    @property
    def total(self) -> int:
        """Multiply-adds of all parts, without sampling."""
        return sum(self.by_part.values())


class PartBook:
    """Books what the counter counts to the part at work.

    A part that another one calls keeps its own work: the class head that ranks an encoder's tokens
    counts for the heads. The memory projection counts for the predictor before the encoder has run,
    and for the heads, as a step of the two-stage output, afterwards.

    Args:
        counter: The counter, which is at work.
    """

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter = counter
        self.flops = dict.fromkeys(PARTS, 0)
        self.stack = ['other']
        self.seen: set[str] = set()
        self.booked = 0

    def settle(self) -> None:
        """Book what was counted since the last time to the part at work."""
        total = self.counter.get_total_flops()
        self.flops[self.stack[-1]] += total - self.booked
        self.booked = total

    def enter(self, part: str) -> None:
        """Begin the work of a part, a name in ``PARTS`` or ``'projection'``."""
        self.settle()
        if part == 'projection':
            part = 'heads' if 'encoder' in self.seen else 'predictor'
        self.seen.add(part)
        self.stack.append(part)

    def leave(self) -> None:
        """End the work of the part at work."""
        self.settle()
        self.stack.pop()

    def watch(self, model: nn.Module) -> list[RemovableHandle]:
        """Let every module of a detector tell when it begins and ends.

        Args:
            model: The detector.

        Returns:
            Handles that remove the hooks.
        """
        handles = []
        for name, module in model.named_modules():
            if name:
                part = part_of(name)
                handles += [
                    module.register_forward_pre_hook(lambda *_, part=part: self.enter(part)),
                    module.register_forward_hook(lambda *_: self.leave()),
                ]
        return handles


def part_of(name: str) -> str:
    """Part that a module belongs to.

    Args:
        name: Its name in the detector, such as ``encoder.layers.0``.

    Returns:
        A name in ``PARTS``, or ``'projection'`` for the memory projection.
    """
    child = name.partition('.')[0]
    return PART_OF_CHILD.get(child, 'heads' if child.endswith('_head') else 'other')


def sampling_multiply_adds(tokens: int, levels: int, points: int, channels: int) -> int:
    """Multiply-adds of deformable sampling.

    Every token reads ``points`` places of every level and head. A place costs a head's channels
    four multiply-adds each for the bilinear interpolation and one for the attention weight; the
    channels of the heads add up to ``channels``.

    Args:
        tokens: Query tokens.
        levels: Feature levels.
        points: Places of each level and head.
        channels: Channels of all heads.

    Returns:
        The number.
    """
    return 5 * tokens * levels * points * channels


def count_query_tokens(args: tuple, kwargs: dict[str, Any]) -> int:
    """Count the tokens of a layer's query.

    Args:
        args: Positional arguments of the layer.
        kwargs: Its arguments by name.

    Returns:
        Tokens of all images.
    """
    query: Tensor = args[0] if args else kwargs['query']
    return query.numel() // query.size(-1)


def watch_sampling(model: nn.Module, record: Callable[[int], None]) -> list[RemovableHandle]:
    """Let every deformable attention tell how much it samples.

    Args:
        model: The detector.
        record: Takes the multiply-adds of each call.

    Returns:
        Handles that remove the hooks.
    """

    def hook(module: MultiScaleDeformableAttention, args: tuple, kwargs: dict[str, Any]) -> None:
        channels = module.value_proj.out_features
        tokens = count_query_tokens(args, kwargs)
        record(sampling_multiply_adds(tokens, module.num_levels, module.num_points, channels))

    return [
        module.register_forward_pre_hook(hook, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, MultiScaleDeformableAttention)
    ]


def watch_encoder(model: nn.Module, record: Callable[[int], None]) -> list[RemovableHandle]:
    """Let every encoder layer tell how many tokens it updates.

    Args:
        model: The detector; its layers are ``encoder.layers``, if it has any.
        record: Takes the tokens of each layer in turn.

    Returns:
        Handles that remove the hooks.
    """

    def hook(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        record(count_query_tokens(args, kwargs))

    layers = getattr(getattr(model, 'encoder', None), 'layers', ())
    return [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention as matrix products, which the counter sees, and not by fused kernels.

    Yields:
        Nothing.
    """
    kernel: AbstractContextManager
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        kernel = sdpa_kernel(SDPBackend.MATH)
    except ImportError:  # PyTorch before 2.3
        kernel = nullcontext()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with kernel:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def count_work(model: nn.Module, image: ImageBatch) -> ForwardWork:
    """Count the work of a detector for an image.

    Args:
        model: The detector, in evaluation mode. Its parameters lose ``requires_grad``, without
            which the counter does not work.
        image: The image.

    Returns:
        Multiply-adds and tokens.
    """
    model.requires_grad_(False)
    sampling: list[int] = []
    tokens: list[int] = []
    with ExitStack() as stack:
        stack.enter_context(plain_attention())
        counter = stack.enter_context(FlopCounterMode(display=False))
        book = PartBook(counter)
        for handle in (
            *book.watch(model),
            *watch_sampling(model, sampling.append),
            *watch_encoder(model, tokens.append),
        ):
            stack.callback(handle.remove)
        detect(model, image)
        book.settle()
    by_part = {part: flops // 2 for part, flops in book.flops.items()}
    return ForwardWork(by_part, sum(sampling), tuple(tokens))
