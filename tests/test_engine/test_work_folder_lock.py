"""Two trainings do not share a folder of checkpoints, and a dead one is in nobody's way."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from mmengine.config import Config
from test_stop_signals import PATIENCE, train_two
from toy_training import crash, make_runner, read_log, run, start

from mmdet_salience.engine import work_folder_lock
from mmdet_salience.engine.resume import read_note
from mmdet_salience.engine.work_folder_lock import (
    LOCK_NAME,
    FolderInUseError,
    claim,
    holds,
    is_in_use,
    release,
)


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def train_and_wait(folder: Path, **settings: Any) -> None:
    """Train, and stop after step 5 until the process is killed."""
    os.setpgrp()
    run(folder, 5, lambda runner: time.sleep(PATIENCE), **settings)


@contextmanager
def training(folder: Path, **settings: Any) -> Iterator[Any]:
    """A training in another process, which has saved checkpoints; killed in the end."""
    process = start(train_and_wait, folder, **settings)
    try:
        wait_until(lambda: read_note(folder).endswith('iter_4.pth'))
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a work folder, without logs."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize('resume', ['auto', False])
def test_second_training_is_refused(tmp_path: Path, resume: str | bool) -> None:
    """The first one keeps all that is its own, and a folder beside it is free."""
    with training(tmp_path / 'work') as process:
        before = contents(tmp_path / 'work')
        words = rf'work is the work folder of a training that runs: process {process.pid} on \S+, '
        with pytest.raises(FolderInUseError, match=words + r'since .*--work-dir'):
            run(tmp_path / 'work', resume=resume, cfg=Config(dict(note='second')))
        after = contents(tmp_path / 'work')
        assert {name: after[name] for name in before} == before
        assert not [name for name in after if name.endswith('.pth') and name not in before]
        run(tmp_path / 'other')


def test_folder_is_given_back_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner(tmp_path / 'work')
    monkeypatch.chdir(tmp_path)
    runner.claim_folder(Path('saved'))
    assert holds(tmp_path / 'saved') and (tmp_path / 'saved' / LOCK_NAME).is_file()
    monkeypatch.chdir(tmp_path / 'work')
    runner.release_folders()
    assert not holds(tmp_path / 'saved')
    assert not (tmp_path / 'saved' / LOCK_NAME).exists()


def test_config_of_a_running_training_stays(tmp_path: Path) -> None:
    path = tmp_path / 'config.py'
    path.write_text('note = 1\n')
    cfg = Config.fromfile(path)
    work = tmp_path / 'work'
    with training(work, cfg=cfg):
        make_runner(work, cfg=Config(dict(note=2), filename=str(path)))
        assert 'note = 1' in (work / 'config.py').read_text()
    make_runner(work, cfg=Config(dict(note=2), filename=str(path)))
    assert 'note = 2' in (work / 'config.py').read_text()


def test_validation_beside_a_training(tmp_path: Path) -> None:
    with training(tmp_path):
        assert make_runner(tmp_path).val()['error'] > 0


def test_shared_folder_of_checkpoints(tmp_path: Path) -> None:
    """Work folders of one name have one folder there."""
    settings = dict(checkpoint=dict(out_dir=str(tmp_path / 'shared')))
    with (
        training(tmp_path / 'a' / 'work', **settings),
        pytest.raises(FolderInUseError, match=r'shared/work is the work folder'),
    ):
        run(tmp_path / 'b' / 'work', **settings)


@pytest.mark.parametrize('data', [dict(), dict(workers=2, persistent=True)])
def test_killed_training_is_in_nobodys_way(tmp_path: Path, data: dict) -> None:
    """Not even for as long as its workers live, or if its process id is in use again."""
    with training(tmp_path, data=data) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        (tmp_path / LOCK_NAME).write_text(f'process {os.getpid()} on this machine')
        assert min(run(tmp_path, resume='auto').losses) == 5
    assert not (tmp_path / LOCK_NAME).exists()


def test_lock_ends_with_the_training(tmp_path: Path) -> None:
    """Also with one that fails, in a process that lives on."""
    with pytest.raises(RuntimeError, match='anything'):
        run(tmp_path, at=3, action=fail)
    assert not (tmp_path / LOCK_NAME).exists()
    runner = make_runner(tmp_path, resume=True, load_from=str(tmp_path / 'none.pth'))
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        runner.prepare_training()
    assert not (tmp_path / LOCK_NAME).exists()
    run(tmp_path, at=4, action=crash)
    assert not (tmp_path / LOCK_NAME).exists()


def fail(runner: Any) -> None:
    """An action of the recorder."""
    assert (Path(runner.work_dir) / LOCK_NAME).exists()
    raise RuntimeError('anything')


def test_prepared_training_has_the_lock(tmp_path: Path) -> None:
    runner = make_runner(tmp_path)
    runner.prepare_training()
    refused = start(expect_refusal, tmp_path)
    refused.join()
    assert refused.exitcode == 0
    runner.train()
    assert not (tmp_path / LOCK_NAME).exists()


def expect_refusal(folder: Path) -> None:
    """Claim a folder in a forked process, whose parent has it."""
    with pytest.raises(FolderInUseError):
        claim(folder)
    assert is_in_use(folder)
    release(folder)  # which is not this process's
    assert is_in_use(folder)


def test_processes_of_one_training_share_its_folder(tmp_path: Path) -> None:
    status, _ = train_two(tmp_path)
    assert status == [0, 0]
    assert not (tmp_path / LOCK_NAME).exists()


def test_processes_are_all_refused(tmp_path: Path) -> None:
    claim(tmp_path)
    try:
        status, losses = train_two(tmp_path)
    finally:
        release(tmp_path)
    assert 0 not in status and None not in status
    assert losses == [{}, {}]


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES + 1000])
def test_file_systems_without_locks(tmp_path: Path, number: int) -> None:
    with mock.patch('fcntl.lockf', side_effect=OSError(number, 'no locks')):
        run(tmp_path)
        assert not is_in_use(tmp_path)
    assert 'training.lock cannot be locked (no locks)' in read_log(tmp_path)


def test_systems_without_locks(tmp_path: Path) -> None:
    with mock.patch.object(work_folder_lock, 'fcntl', None):
        run(tmp_path, at=4, action=crash)
        assert not is_in_use(tmp_path)


def test_holder_that_ends_meanwhile(tmp_path: Path) -> None:
    """Its file is gone when the lock is there: another is made."""
    path = tmp_path / LOCK_NAME
    locks = []
    lockf = work_folder_lock.fcntl.lockf

    def lock_late(*args: Any) -> None:
        lockf(*args)
        if not locks:
            path.unlink()
        locks.append(args)

    with mock.patch('fcntl.lockf', lock_late):
        claim(tmp_path)
    assert len(locks) == 2 and path.read_text().startswith(f'process {os.getpid()} on ')
    release(tmp_path)
    assert not path.exists()
