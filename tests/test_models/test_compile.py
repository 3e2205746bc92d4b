"""``torch.compile`` in evaluation: which part to compile, and that all of it may be."""

import pytest
import torch
from helpers import build, make_batch, tiny_model_cfg
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_salience.models.layers.geometry import BatchGeometry
from mmdet_salience.models.layers.token_filter import level_budgets


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    """Forget what other tests compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def image(height: int, width: int) -> Tensor:
    """Normalised pixels, (3, height, width)."""
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(height))


def detect(model: nn.Module, *images: Tensor) -> list[InstanceData]:
    """Detections of a batch."""
    with torch.no_grad():
        samples = model(*make_batch(images), mode='predict')
    return [sample.pred_instances for sample in samples]


def assert_same(ours: list[InstanceData], theirs: list[InstanceData]) -> None:
    """Compare detections of all images."""
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.bboxes, other.bboxes)
        assert torch.equal(one.labels, other.labels)


def test_backbone_and_neck_are_one_graph_for_all_sizes() -> None:
    model = build(tiny_model_cfg())
    sizes = ((96, 128), (160, 128), (192, 96), (128, 160), (224, 192))
    batches = [(image(*size),) for size in sizes]
    batches.append((image(64, 64), image(96, 32)))  # padded
    expected = [detect(model, *batch) for batch in batches]
    model.extract_feat = torch.compile(model.extract_feat, backend='eager', fullgraph=True)
    for batch, detections in zip(batches, expected, strict=True):
        assert_same(detect(model, *batch), detections)
        if batch is batches[len(sizes) - 1]:  # sides become symbols once they are seen to vary
            assert 0 < torch._dynamo.utils.counters['stats']['unique_graphs'] < len(sizes)


def test_budgets_of_tokens_follow_symbolic_sizes() -> None:
    # Compiled for any image size, sizes are symbols, and PyTorch fails on the floor of their share.
    def kept_tokens(pixels: Tensor) -> Tensor:
        size = pixels.shape[1:]
        geometry = BatchGeometry.from_images([size], size, (8, 16, 32, 64), 32)
        budgets = level_budgets(geometry.num_valid_tokens[0], (0.4, 0.8, 1.0, 1.0))
        return pixels.flatten()[: sum(budgets)]

    compiled = torch.compile(kept_tokens, backend='eager', dynamic=True)
    for size in ((64, 96), (161, 130), (400, 530)):
        pixels = torch.zeros(3, *size)
        assert compiled(pixels).numel() == kept_tokens(pixels).numel()


@pytest.mark.slow
def test_the_whole_detector() -> None:
    # Deformable attention and NMS are C++ functions, around which the graph breaks.
    cfg = tiny_model_cfg()
    cfg.encoder.num_layers = cfg.decoder.num_layers = 1
    cfg.encoder.token_filter.layer_ratios = (1.0,)
    model = build(cfg)
    expected = detect(model, image(64, 96))
    compiled = torch.compile(model, backend='eager')
    assert_same(detect(compiled, image(64, 96)), expected)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0
