"""num_classes=None: another number of classes arrives with the weights, after the optimizer."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers import build, sample, tiny_model_cfg
from mmengine.config import ConfigDict
from mmengine.runner import Runner


def config(num_classes: int | None) -> ConfigDict:
    """A tiny detector."""
    cfg = tiny_model_cfg(num_classes=2)
    cfg.bbox_head.num_classes = num_classes
    return cfg


def batch() -> dict:
    """A batch as a data loader gives it."""
    one = sample((64, 64), boxes=[[4, 4, 40, 30]], labels=[4])
    return dict(inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)], data_samples=[one])


def test_classes_of_a_checkpoint_are_trained_by_another_runner(tmp_path: Path) -> None:
    torch.save(build(config(5)).state_dict(), tmp_path / 'five.pth')
    with mock.patch('mmengine.runner.runner.collect_env', dict):  # which calls compilers
        runner = Runner(
            model=config(None),
            work_dir=str(tmp_path),
            train_dataloader=torch.utils.data.DataLoader(
                [batch(), batch()], batch_size=1, collate_fn=lambda batches: batches[0]
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
            load_from=str(tmp_path / 'five.pth'),
            default_scope='mmdet',
            experiment_name='classes',
            visualizer=dict(type='Visualizer'),
        )
    runner.train()
    model = runner.model
    before = torch.load(tmp_path / 'five.pth')
    trained = {id(p) for g in runner.optim_wrapper.param_groups for p in g['params']}
    names = [f'bbox_head.cls_branches.{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')]
    names.append('dn_query_generator.label_embedding.weight')
    parameters = dict(model.named_parameters())
    for name in names:
        assert len(parameters[name]) == 5
        assert id(parameters[name]) in trained
        assert not torch.equal(parameters[name], before[name]), name


def test_several_processes_have_to_know_the_number() -> None:
    model = build(config(None))
    state = build(config(5)).state_dict()
    with mock.patch('mmdet_salience.models.detectors.class_following.get_world_size', lambda: 2):
        model.load_state_dict(state)
        one = batch()
        inputs = one['inputs'][0][None].float()
        assert len(model.predict(inputs, one['data_samples'])) == 1  # tests need not know it
        with pytest.raises(ValueError, match=r'Set model\.bbox_head\.num_classes=5'):
            model.loss(inputs, one['data_samples'])
