"""Two processes with an image each against one process with both images."""

import logging
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import build, make_batch, tiny_model_cfg
from mmengine.config import Config, ConfigDict
from mmengine.dist import all_reduce, get_rank
from mmengine.model import convert_sync_batchnorm
from mmengine.model.wrappers import MMFullyShardedDataParallel
from several_processes import run_on_ranks
from torch import Tensor, nn
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torch.nn.parallel import DistributedDataParallel

from mmdet_salience.engine.cpu_norms import without_sync_norms

TORCH = tuple(int(part) for part in torch.__version__.split('.')[:2])
# Boxes and labels of the two images, one image a rank.
FIRST = [[8, 8, 40, 50], [30, 4, 60, 20]]
CASES = {
    'equal': ([FIRST, [[4, 20, 30, 60], [10, 10, 50, 54]]], [[0, 2], [1, 1]]),
    'one_rank_empty': ([FIRST, []], [[0, 2], []]),
    'uneven': ([[*FIRST, [2, 2, 20, 61]], [[4, 20, 30, 60]]], [[0, 2, 1], [1]]),
}
# DINO's denoising is the one loss that depends on batch-mates: an image with fewer objects than
# they have gets queries that stand for nothing. These learn to be background, and the other
# queries of their group attend to them.
LEFT_OUT = {'equal': (), 'one_rank_empty': ('dn_loss_cls',), 'uneven': ('dn_',)}
RUNS = (
    ('SalienceLoss', 'equal'),
    ('SalienceLoss', 'one_rank_empty'),
    ('SalienceLoss', 'uneven'),
    ('ForegroundLoss', 'uneven'),
)
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-3  # of a weight's largest gradient


def model_cfg(kind: str) -> ConfigDict:
    """A tiny detector without noise, and without norms over the images of a batch."""
    cfg = tiny_model_cfg()
    cfg.token_fusion.norm_cfg = dict(type='GN', num_groups=4)
    cfg.dn_cfg.update(label_noise_scale=1e-9, box_noise_scale=1e-9)
    cfg.dn_cfg.group_cfg = dict(dynamic=False, num_groups=3)
    cfg.bbox_head.loss_salience = dict(type=kind)
    cfg.train_cfg.salience_assigner.type = kind.replace('Loss', 'Assigner')
    return cfg


def model_of(kind: str) -> nn.Module:
    """The detector with weights that let every part matter."""
    model = build(model_cfg(kind))
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=source))
    return model.train()


def step(model: nn.Module, case: str, images: slice) -> dict[str, Tensor]:
    """Losses of some of the two images; the gradient of their sum goes into the weights."""
    boxes, labels = CASES[case]
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    batch, samples = make_batch(pixels[images], boxes[images], labels[images])
    losses = {
        name: loss.sum()
        for name, loss in model(batch, samples, mode='loss').items()
        if not any(part in name for part in LEFT_OUT[case])
    }
    sum(losses.values()).backward()
    return {name: loss.detach() for name, loss in losses.items()}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Gradients by name."""
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.requires_grad}


def rank_steps(folder: Path) -> None:
    """Run all cases on one rank, without ``find_unused_parameters``."""
    warnings.simplefilter('ignore')
    rank, results = get_rank(), {}
    for kind in dict.fromkeys(kind for kind, _ in RUNS):
        bare = model_of(kind)
        model = DistributedDataParallel(bare, broadcast_buffers=False)
        for case in (case for run_kind, case in RUNS if run_kind == kind):
            bare.zero_grad()
            losses = step(model, case, slice(rank, rank + 1))
            for loss in losses.values():
                all_reduce(loss, 'mean')
            results[kind, case] = (losses, gradients(bare))
    torch.save(results, folder / f'rank_{rank}.pth')


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Losses and gradients of both ranks, by kind of loss and case."""
    folder = tmp_path_factory.mktemp('ranks')
    run_on_ranks(rank_steps, folder, folder)
    return [torch.load(folder / f'rank_{rank}.pth') for rank in range(2)]


@pytest.mark.parametrize(('kind', 'case'), RUNS)
def test_two_processes_learn_what_one_does(ranks: list[dict], kind: str, case: str) -> None:
    model = model_of(kind)
    expected = step(model, case, slice(0, 2))
    losses, learned = ranks[0][kind, case]
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=LOSS_TOLERANCE, atol=1e-6, msg=name)
    for name, gradient in gradients(model).items():
        limit = GRADIENT_TOLERANCE * gradient.abs().max().clamp(min=1e-3)
        assert (learned[name] - gradient).abs().max() <= limit, name
        assert torch.equal(ranks[1][kind, case][1][name], learned[name]), name


def test_sync_norms_take_the_place_of_all_batch_norms() -> None:
    # sync_bn='torch' of a config does this to a model on several GPUs.
    model = build(tiny_model_cfg())
    names = model.state_dict().keys()
    model = convert_sync_batchnorm(model, 'torch')
    kinds = {type(m) for m in model.token_fusion.modules() if isinstance(m, nn.SyncBatchNorm)}
    assert kinds
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert model.state_dict().keys() == names


@pytest.mark.parametrize('asked_by', ['sync_bn', 'norm_cfg'])
def test_sync_norms_give_way_on_a_cpu(asked_by: str) -> None:
    model_config, cfg = tiny_model_cfg(), Config(dict(sync_bn=None))
    if asked_by == 'norm_cfg':
        model_config.token_fusion.norm_cfg = dict(type='SyncBN')
    else:
        cfg.sync_bn = 'torch'
    model = build(model_config)
    names, lines = model.state_dict().keys(), []
    logger = logging.Logger('test')
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: lines.append(record.getMessage())
    model = without_sync_norms(model, cfg, logger)
    assert len(lines) == 1 and lines[0].startswith('SyncBN needs GPUs.')
    assert 'sync_bn' not in cfg
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert model.state_dict().keys() == names
    without_sync_norms(model, cfg, logger)
    assert len(lines) == 1


def two_steps(model: nn.Module, images: slice) -> list[dict[str, Tensor]]:
    """Losses before and after a step of plain gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    before = step(model, 'equal', images)
    optimizer.step()
    return [before, step(model, 'equal', images)]


def sharded_steps(folder: Path) -> None:
    """Steps with weights and gradients in shards, wrapped as by MMEngine's FSDPStrategy."""
    warnings.simplefilter('ignore')
    rank, bare = get_rank(), model_of('SalienceLoss')
    full = sum(weight.numel() for weight in bare.parameters())
    model = MMFullyShardedDataParallel(
        bare,
        use_orig_params=True,
        device_id=torch.device('cpu'),
        auto_wrap_policy=partial(size_based_auto_wrap_policy, min_num_params=100_000),
    )
    losses = two_steps(model, slice(rank, rank + 1))
    for loss in (loss for terms in losses for loss in terms.values()):
        all_reduce(loss, 'mean')
    kept = sum(weight.numel() for weight in model.parameters())
    torch.save((losses, kept / full), folder / f'rank_{rank}.pth')


@pytest.mark.skipif(TORCH < (2, 6), reason='FSDP on a CPU was seen to work with PyTorch 2.13')
def test_shards_learn_what_whole_models_do(tmp_path: Path) -> None:
    run_on_ranks(sharded_steps, tmp_path, tmp_path)
    losses, share = torch.load(tmp_path / 'rank_0.pth')
    assert 0.45 < share < 0.55
    expected = two_steps(model_of('SalienceLoss'), slice(0, 2))
    for ours, theirs in zip(losses, expected, strict=True):
        for name, loss in theirs.items():
            torch.testing.assert_close(ours[name], loss, rtol=1e-4, atol=1e-6, msg=name)
    assert sum(expected[1].values()) < sum(expected[0].values())
