"""``num_workers=0`` alone switches workers off, whatever else a config says about them."""

from pathlib import Path

import pytest
from test_data_fit import build_runner, custom_config, write_data
from toy_training import make_runner, run

from mmdet_salience.engine.worker_options import without_idle_options

OPTIONS = dict(
    persistent_workers=True, prefetch_factor=4, timeout=30, multiprocessing_context='fork'
)


def test_nothing_is_left_out_where_there_are_workers() -> None:
    loader = dict(num_workers=2, batch_size=1, **OPTIONS)
    assert without_idle_options(loader) == loader


@pytest.mark.parametrize('workers', [dict(num_workers=0), dict()])
@pytest.mark.parametrize('by_epoch', [False, True])
def test_training_and_validation_without_workers(
    tmp_path: Path, by_epoch: bool, workers: dict
) -> None:
    """Each option alone is refused by PyTorch."""
    runner = make_runner(tmp_path, by_epoch=by_epoch)
    for loader in (runner._train_dataloader, runner._val_dataloader):
        del loader['num_workers']
        loader.update(workers, **OPTIONS)
    runner.train()
    assert runner.iter == (15 if by_epoch else 12)


def test_workers_keep_their_options(tmp_path: Path) -> None:
    loader = run(tmp_path, data=dict(workers=1, **OPTIONS)).runner.train_dataloader
    assert (loader.num_workers, loader.timeout, loader.prefetch_factor) == (1, 30, 4)
    assert loader.persistent_workers


def test_test_without_workers(tmp_path: Path) -> None:
    """As on the command line: ``test_dataloader.num_workers=0`` and nothing else."""
    cfg = custom_config(write_data(tmp_path, ('pore',)))
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].update(num_workers=0, **OPTIONS)
    runner = build_runner(cfg)
    assert 'coco/bbox_mAP' in runner.test()
    assert 'coco/bbox_mAP' in runner.val()
