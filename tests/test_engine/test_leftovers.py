"""Checkpoints that a killed run had replaced go at the next start, and no others."""

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from test_atomic_checkpoints import names
from test_stop_signals import stop
from toy_training import Crash, crash, read_log, run

from mmdet_salience.engine.hooks import DurableCheckpointHook
from mmdet_salience.engine.hooks.leftovers import Kept, is_replaced

LIMIT = dict(max_keep_ckpts=2, interval=2, save_best=None)


def test_kill_before_the_oldest_is_removed(tmp_path: Path) -> None:
    with mock.patch.object(DurableCheckpointHook, 'remove_checkpoint', side_effect=Crash):
        run(tmp_path, checkpoint=LIMIT)
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'last_checkpoint']
    run(tmp_path, at=7, action=crash, resume='auto', checkpoint=LIMIT, log_level='INFO')
    assert names(tmp_path) == ['iter_4.pth', 'iter_6.pth', 'last_checkpoint']
    assert f'Removed {tmp_path / "iter_2.pth"}, which a killed run had replaced' in read_log(
        tmp_path
    )
    run(tmp_path, resume='auto', checkpoint=LIMIT)
    assert names(tmp_path) == ['iter_10.pth', 'iter_12.pth', 'last_checkpoint']


def test_those_of_a_run_that_kept_all_stay(tmp_path: Path) -> None:
    """MMEngine removes only what a run with ``max_keep_ckpts`` has saved, and so does a resume."""
    keep_all = dict(max_keep_ckpts=-1, save_best=None, interval=1)
    limit = dict(keep_all, max_keep_ckpts=2)
    run(tmp_path, at=4, action=crash, checkpoint=keep_all)
    assert names(tmp_path) == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth', 'last_checkpoint']
    run(tmp_path, at=6, action=crash, resume='auto', checkpoint=limit)
    with mock.patch.object(DurableCheckpointHook, 'remove_checkpoint', side_effect=Crash):
        run(tmp_path, resume='auto', checkpoint=limit)
    regular = [f'iter_{step}.pth' for step in (1, 2, 3, 4, 5, 6)]
    assert names(tmp_path) == [*regular, 'last_checkpoint']
    run(tmp_path, at=7, action=crash, resume='auto', checkpoint=limit)
    regular.remove('iter_4.pth')
    assert names(tmp_path) == [*regular, 'last_checkpoint']


def test_kill_before_the_former_best_is_removed(tmp_path: Path) -> None:
    metrics = [dict(error=error) for error in (3.0, 2.0)]
    original = DurableCheckpointHook.current_best

    def crash_late(hook: Any) -> set[str]:
        best = original(hook)
        if any('iter_8' in path for path in best):
            raise Crash
        return best

    with (
        mock.patch('toy_training.ToyMetric.compute_metrics', side_effect=metrics),
        mock.patch.object(DurableCheckpointHook, 'current_best', crash_late),
    ):
        run(tmp_path)
    best = ['best_error_iter_4.pth', 'best_error_iter_8.pth']
    assert [name for name in names(tmp_path) if 'best' in name] == best
    run(tmp_path, at=9, action=crash, resume='auto')
    assert [name for name in names(tmp_path) if 'best' in name] == best[1:]


def test_kill_before_the_interrupted_one_is_removed(tmp_path: Path) -> None:
    stop(tmp_path, 5)
    with mock.patch.object(Path, 'unlink', side_effect=Crash):
        run(tmp_path, resume='auto')
    assert {'interrupted_iter_5.pth', 'iter_6.pth'} <= set(names(tmp_path))
    run(tmp_path, at=7, action=crash, resume='auto')
    assert 'interrupted_iter_5.pth' not in names(tmp_path)


def test_others_stay(tmp_path: Path) -> None:
    """Those of another training, of this one after the resumed step, and other names."""
    run(tmp_path / 'other', checkpoint=LIMIT | dict(max_keep_ckpts=-1))
    work = tmp_path / 'work'
    run(work, at=9, action=crash, checkpoint=LIMIT)
    assert names(work) == ['iter_6.pth', 'iter_8.pth', 'last_checkpoint']
    shutil.copy(tmp_path / 'other' / 'iter_4.pth', work / 'iter_4.pth')
    shutil.copy(work / 'iter_6.pth', work / 'my_iter_4.pth')
    shutil.copy(work / 'iter_6.pth', work / 'iter_3.pth')
    (work / 'iter_5.pth').write_bytes(b'half')
    (work / 'iter_1.pth').symlink_to('iter_6.pth')
    before = [*names(work)]
    run(work, at=9, action=crash, resume='auto', checkpoint=LIMIT)
    assert names(work) == before
    shutil.copy(work / 'iter_6.pth', work / 'iter_4.pth')
    run(work, at=9, action=crash, resume='auto', checkpoint=LIMIT)
    before.remove('iter_4.pth')
    assert names(work) == before


def test_a_new_training_removes_nothing(tmp_path: Path) -> None:
    run(tmp_path, at=9, action=crash, checkpoint=LIMIT)
    run(tmp_path, at=1, action=crash, checkpoint=LIMIT)
    assert names(tmp_path) == ['iter_6.pth', 'iter_8.pth', 'last_checkpoint']


def test_best_of_another_folder_stays(tmp_path: Path) -> None:
    """A resumed checkpoint may name any file as the best one so far."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    metrics = [dict(error=error) for error in (3.0, 2.0, 1.0)]
    with mock.patch('toy_training.ToyMetric.compute_metrics', side_effect=metrics):
        run(first, at=7, action=crash)
        run(second, resume=True, load_from=str(first / 'iter_6.pth'))
    assert 'best_error_iter_4.pth' in names(first)
    assert [name for name in names(second) if 'best' in name] == ['best_error_iter_12.pth']


KEPT = Kept('iter_{}.pth', ('iter_2.pth', 'iter_8.pth'), ('best_a_b_iter_4.pth',), 'iter_8.pth', 8)


@pytest.mark.parametrize(
    'name, replaced',
    [
        ('iter_2.pth', True),
        ('iter_1.pth', False),
        ('iter_6.pth', False),
        ('iter_8.pth', False),
        ('iter_9.pth', False),
        ('iter_02.pth', False),
        ('xiter_2.pth', False),
        ('iter_2.pth.bak', False),
        ('epoch_2.pth', False),
        ('interrupted_iter_8.pth', True),
        ('interrupted_iter_9.pth', False),
        ('best_a_b_iter_2.pth', True),
        ('best_a_b_iter_4.pth', False),
        ('best_a_b_iter_5.pth', False),
        ('best_a_iter_2.pth', False),
        ('best_a_b_c_iter_2.pth', False),
    ],
)
def test_names(name: str, replaced: bool) -> None:
    assert is_replaced(name, KEPT) is replaced


def test_names_where_nothing_is_known() -> None:
    unknown = Kept('iter_{}.pth', (), (), '', 0)
    assert not any(is_replaced(name, unknown) for name in ('iter_2.pth', 'best_a_iter_2.pth'))
