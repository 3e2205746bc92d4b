"""num_cp: the same losses and gradients from activations that are computed twice."""

from unittest import mock

import pytest
import torch
from helpers import build, make_batch, tiny_model_cfg
from mmengine.config import ConfigDict
from torch import Tensor, nn
from torch.utils import checkpoint as recompute

from mmdet_salience.models.layers.encoder import FilteringEncoderLayer


def gradients(cfg: ConfigDict) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Losses, gradients by name, and how often an encoder layer was called."""
    model = build(cfg).train()
    source = torch.Generator().manual_seed(0)
    images = [torch.randn(3, *size, generator=source) for size in ((96, 64), (64, 64))]
    batch = make_batch(images, [[[4, 4, 40, 30]], [[8, 8, 30, 30]]], [[1], [0]])
    torch.manual_seed(0)  # for the denoising noise
    forward = FilteringEncoderLayer.forward
    with mock.patch.object(FilteringEncoderLayer, 'forward', autospec=True) as calls:
        calls.side_effect = forward
        losses = model.loss(*batch)
        sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in model.named_parameters()}, calls.call_count


@pytest.mark.parametrize(('encoder', 'decoder'), [(2, -1), (-1, 2), (1, 1)])
def test_losses_and_gradients_are_the_same(encoder: int, decoder: int) -> None:
    losses, grads, num_calls = gradients(tiny_model_cfg())
    assert num_calls == 2
    cfg = tiny_model_cfg()
    cfg.encoder.num_cp, cfg.decoder.num_cp = encoder, decoder
    other_losses, other_grads, other_calls = gradients(cfg)
    assert other_calls == 2 + max(encoder, 0)  # once more for each in the backward pass
    for name, loss in losses.items():
        assert torch.equal(loss, other_losses[name]), name
    for name, grad in grads.items():
        if grad is not None:
            torch.testing.assert_close(other_grads[name], grad, msg=name)


def saved_bytes(cfg: ConfigDict) -> int:
    """Bytes that encoder and decoder keep for the backward pass, weights aside."""
    model = build(cfg).train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.state_dict().values()}
    batch = make_batch([torch.randn(3, 128, 128)], [[[4, 4, 40, 30]]], [[1]])
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        """Count a storage once."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.no_grad():
        features = model.extract_feat(batch[0])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model.forward_transformer(features, batch[1])
    assert outputs['hidden_states'].requires_grad
    return sum(kept.values())


@pytest.mark.parametrize('part', ['encoder', 'decoder'])
def test_less_is_kept(part: str) -> None:
    cfg = tiny_model_cfg()
    before = saved_bytes(cfg)
    cfg[part].num_cp = 2
    assert saved_bytes(cfg) < 0.9 * before


@pytest.mark.parametrize('part', ['encoder', 'decoder'])
def test_more_layers_than_there_are_are_refused(part: str) -> None:
    cfg = tiny_model_cfg()
    cfg[part].num_cp = 3
    with pytest.raises(ValueError, match=rf'{part}.num_cp=3, but there are 2 layers'):
        build(cfg)


def test_prediction_computes_nothing_twice() -> None:
    cfg = tiny_model_cfg()
    cfg.encoder.num_cp = 2
    model: nn.Module = build(cfg)
    batch = make_batch([torch.randn(3, 64, 64)])
    place = 'mmdet_salience.models.layers.activation_checkpoint.checkpoint'
    with mock.patch(place, wraps=recompute.checkpoint) as checkpoint:
        with torch.no_grad():
            model.predict(*batch)
        assert checkpoint.call_count == 0
        model.predict(*batch)  # with gradients, so that the count sees it
        assert checkpoint.call_count == 2
