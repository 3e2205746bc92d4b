"""DINO as published, and its number of classes."""

from pathlib import Path

import pytest
import torch
from helpers import ROOT, build, make_batch
from mmengine.config import Config, ConfigDict
from mmengine.runner import load_checkpoint

CONFIG = ROOT / 'configs' / 'dino' / 'dino-4scale_r18_1xb8-750i_synthetic.py'


def dino_cfg(num_classes: int | None = None) -> ConfigDict:
    """The small DINO."""
    cfg = Config.fromfile(CONFIG).model
    cfg.bbox_head.num_classes = num_classes
    return cfg


def test_query_head_has_the_published_width() -> None:
    model = build(dino_cfg(3))
    assert model.decoder.ref_point_head.layers[0].in_features == 2 * 256


def test_every_parameter_learns_and_all_sizes_predict() -> None:
    model = build(dino_cfg(3)).train()
    batch, samples = make_batch([torch.randn(3, 96, 64)] * 2, [[[5, 5, 50, 60]], []], [[1], []])
    total, _ = model.parse_losses(model.loss(batch, samples))
    total.backward()
    assert torch.isfinite(total)
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    with torch.no_grad():
        results = model.eval().predict(*make_batch([torch.randn(3, 64, 160)]))
    assert len(results[0].pred_instances) == 100


@pytest.mark.parametrize('classes', [3, 90])
def test_classes_of_the_checkpoint(tmp_path: Path, classes: int) -> None:
    trained = build(dino_cfg(classes))
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'dino.pth')
    model = build(dino_cfg(), seed=1)
    load_checkpoint(model, str(tmp_path / 'dino.pth'), strict=True)
    assert model.bbox_head.num_classes == classes
    image = make_batch([torch.randn(3, 64, 96)])
    with torch.no_grad():
        ours, theirs = (m.eval().predict(*image)[0].pred_instances for m in (model, trained))
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-6)
