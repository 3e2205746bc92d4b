"""One training step against the authors' release: losses and gradients (tests/data/README.md)."""

import json
import zlib
from functools import cache
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    DATA,
    build,
    make_batch,
    release_state_dict,
    release_to_ours,
    small_model_cfg,
)
from mmdet.models.layers import CdnQueryGenerator, inverse_sigmoid
from torch import Tensor

KINDS = {'class': 'cls', 'bbox': 'bbox', 'giou': 'iou'}
# A softmax over pixels ignores a bias: the gradient is 0 up to rounding.
NO_GRADIENT = 'conv_mask.bias'
# The gradient of alpha, 1e-7, is a sum of numbers a million times as large.
ROUNDING = 1e-8


@cache
def recorded() -> dict[str, np.ndarray]:
    """What the release computed."""
    with np.load(DATA / 'gradients_r18.npz') as arrays:
        return {name: arrays[name] for name in arrays.files}


@cache
def training_step() -> tuple[dict[str, float], dict[str, Tensor]]:
    """Our losses, and gradients by the release's names, of the recorded step."""
    keys = json.loads((DATA / 'official_keys_r18_train.json').read_text())
    model = build(small_model_cfg(num_classes=3))
    model.load_state_dict(release_state_dict(keys), strict=True)
    arrays = {name: torch.from_numpy(array) for name, array in recorded().items() if array.shape}
    batch = make_batch(
        list(arrays['images']),
        [arrays[f'boxes_{image}'].tolist() for image in range(2)],
        [arrays[f'labels_{image}'].tolist() for image in range(2)],
    )
    model.train()

    def labels(generator: CdnQueryGenerator, *_: object) -> Tensor:
        """The recorded labels instead of noisy ones."""
        return generator.label_embedding(arrays['dn_labels'])

    with (
        mock.patch.object(CdnQueryGenerator, 'generate_dn_label_query', labels),
        mock.patch.object(
            CdnQueryGenerator,
            'generate_dn_bbox_query',
            lambda *_: inverse_sigmoid(arrays['dn_boxes'], eps=1e-3),
        ),
    ):
        losses = model.loss(*batch)
    sum(losses.values()).backward()
    names = release_to_ours(keys)
    gradients = {
        names[ours]: parameter.grad for ours, parameter in model.named_parameters() if ours in names
    }
    return {name: loss.item() for name, loss in losses.items()}, gradients


def our_name(release_name: str) -> str:
    """Mmdet's name of a loss, such as ``d0.dn_loss_cls`` for ``loss_class_dn_0``."""
    kind, *rest = release_name.removeprefix('loss/loss_').split('_')
    if kind == 'salience':
        return 'loss_salience'
    layer = next((f'd{part}.' for part in rest if part.isdigit()), '')
    part = next((f'{part}_' for part in rest if not part.isdigit()), '')
    return f'{layer}{part}loss_{KINDS[kind]}'


def test_every_loss_is_compared() -> None:
    names = [our_name(name) for name in recorded() if name.startswith('loss/')]
    assert sorted(names) == sorted(training_step()[0])
    assert len(names) == 22


@pytest.mark.parametrize('name', [name for name in recorded() if name.startswith('loss/')])
def test_losses(name: str) -> None:
    assert training_step()[0][our_name(name)] == pytest.approx(float(recorded()[name]), rel=1e-4)


def test_every_gradient_is_compared() -> None:
    theirs = {name.removeprefix('grad_norm/') for name in recorded() if 'grad_norm/' in name}
    ours = set(training_step()[1])
    # The release holds the two-stage class branch under two names and trains it under one.
    aliases = {name for name in theirs if 'enhance_mcsp' in name}
    assert {name.replace('encoder.enhance_mcsp', 'encoder_class_head') for name in aliases} <= ours
    assert theirs - aliases <= ours
    assert len(ours) == len(theirs)


def test_gradients() -> None:
    gradients = training_step()[1]
    wrong = []
    for key in recorded():
        name = key.removeprefix('grad_norm/')
        if name == key or name.endswith(NO_GRADIENT):
            continue
        ours = gradients[name.replace('encoder.enhance_mcsp', 'encoder_class_head')]
        ours = ours.double().flatten().numpy()
        seed = [zlib.crc32(name.encode()), 1]
        direction = np.random.Generator(np.random.PCG64(seed)).standard_normal(ours.size)
        norm, product = (float(recorded()[f'grad_{kind}/{name}']) for kind in ('norm', 'dot'))
        # The product with a random direction is about as large as the norm.
        if not (
            np.linalg.norm(ours) == pytest.approx(norm, rel=1e-3, abs=ROUNDING)
            and ours @ direction == pytest.approx(product, abs=3e-3 * norm + ROUNDING)
        ):
            wrong.append(f'{name}: {np.linalg.norm(ours)} {norm}, {ours @ direction} {product}')
    assert not wrong, '\n'.join(wrong)
