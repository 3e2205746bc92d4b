"""Named results of the detector's steps.

Shapes: B images, L levels, N tokens of all levels, C channels, Q queries, K classes.
"""

from typing import Any, NamedTuple

from mmdet.structures import SampleList
from torch import Tensor

from ..layers.encoder import EncoderOutput
from ..layers.geometry import BatchGeometry, Size
from ..layers.token_filter import TokenSelection
from ..layers.tokens import FeatureTokens
from ..task_modules.query_redundancy_nms import QuerySelection


class EncodedTokens(NamedTuple):
    """Everything known after the encoder.

    Attributes:
        tokens: The encoder's input.
        salience: Salience logits (B, 1, H, W) of each level.
        encoder: The encoder's output before fusion, and the tokens of each layer.
        memory: Tokens after cross-level fusion, (B, N, C).
    """

    tokens: FeatureTokens
    salience: tuple[Tensor, ...]
    encoder: EncoderOutput
    memory: Tensor


class TwoStageOutput(NamedTuple):
    """Initial queries.

    Attributes:
        selection: Which tokens became queries.
        logits: Their class logits, (B, Q, K).
        box_logits: Their boxes (cx, cy, w, h) before the sigmoid, (B, Q, 4).
    """

    selection: QuerySelection
    logits: Tensor
    box_logits: Tensor


class DecodedQueries(NamedTuple):
    """The results of all steps before the head.

    Attributes:
        encoded: What the encoder returned.
        two_stage: The initial queries.
        head_inputs: Arguments of the head by name, without denoising.
    """

    encoded: EncodedTokens
    two_stage: TwoStageOutput
    head_inputs: dict[str, Any]


class InitialQueries(NamedTuple):
    """Which tokens a two-stage detector's decoder starts from.

    Attributes:
        best: Tokens with the best class logits, in falling order, (B, Q).
        chosen: Tokens that become queries, (B, Q'); the same where nothing removes redundant ones.
        padding_mask: True for entries of ``chosen`` that an image does not have, (B, Q'), or None.
        level_shapes: (height, width) of each level of the padded batch.
        batch_shape: (height, width) of the padded batch in pixels.
    """

    best: Tensor
    chosen: Tensor
    padding_mask: Tensor | None
    level_shapes: tuple[Size, ...]
    batch_shape: Size


class SalienceInspection(NamedTuple):
    """What one looks at to understand a prediction.

    Attributes:
        salience: Salience logits (B, H, W) of each level over the padded batch, finest first.
        token_selection: Tokens that each encoder layer updated.
        encoder_memory: Tokens after the encoder, (B, N, C).
        memory: Tokens after cross-level fusion, (B, N, C).
        two_stage: Initial queries, before and after redundancy removal.
        logits: Class logits of each decoder layer, (layers, B, Q, K).
        boxes: Boxes (cx, cy, w, h) in 0..1 of each decoder layer, (layers, B, Q, 4).
        detections: The samples with ``pred_instances``.
        geometry: Sizes of the batch and its levels.
    """

    salience: tuple[Tensor, ...]
    token_selection: TokenSelection
    encoder_memory: Tensor
    memory: Tensor
    two_stage: TwoStageOutput
    logits: Tensor
    boxes: Tensor
    detections: SampleList
    geometry: BatchGeometry
