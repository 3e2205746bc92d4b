"""Checkpoints are whole or not there: full disks, kills at any moment, and the order of removal."""

import errno
import io
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from toy_training import make_runner, read_log, run, start

from mmdet_salience.engine import durable_files
from mmdet_salience.engine.durable_files import (
    DiskFullError,
    DurableBackend,
    NotWrittenError,
    draft_of,
    write_durably,
)
from mmdet_salience.utils.safe_load import load_safely

KILLS = (4, 30, 9, 37, 20)  # pieces, of which a file has eight


def names(folder: Path) -> list[str]:
    """Files of a work folder, without logs and configs."""
    return sorted(
        path.name for path in folder.iterdir() if path.is_file() and path.suffix in ('.pth', '')
    )


def drafts(folder: Path) -> list[str]:
    """What is half written."""
    return [path.name for path in folder.glob('.*')]


def test_name_is_given_after_the_content_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    path.write_bytes(b'old')
    steps = []

    def record(name: str, original: Any) -> Any:
        def call(*args: Any) -> Any:
            steps.append((name, path.read_bytes(), draft_of(path).is_file()))
            return original(*args)

        return call

    fsync, replace = os.fsync, os.replace
    with (
        mock.patch('os.fsync', record('fsync', fsync)),
        mock.patch('os.replace', record('replace', replace)),
    ):
        write_durably(path, b'new')
    assert steps == [
        ('fsync', b'old', True),
        ('replace', b'old', True),
        ('fsync', b'new', False),  # of the folder
    ]
    assert path.read_bytes() == b'new'


class FullFile(io.FileIO):
    """A file on a disk with room for ten bytes."""

    def write(self, content: Any) -> int:
        """Write what fits."""
        super().write(memoryview(content)[:10])
        raise OSError(errno.ENOSPC, 'No space left on device')


def full_disk(path: Path, *args: Any, **kwargs: Any) -> Any:
    """Open a file on a full disk, where it is a draft; for ``Path.open``."""
    if path.name.startswith('.iter') and 'wb' in args:
        return FullFile(path, 'wb')
    return open(path, *args, **kwargs)


def test_full_disk(tmp_path: Path) -> None:
    path = tmp_path / 'iter_1.pth'
    path.write_bytes(b'old')
    with (
        mock.patch.object(Path, 'open', full_disk),
        pytest.raises(DiskFullError, match=r'iter_1\.pth could not be written.* needs 2\.0 MB'),
    ):
        write_durably(path, bytes(2_000_000))
    assert path.read_bytes() == b'old'
    assert not drafts(tmp_path)


def test_other_errors_leave_nothing_either(tmp_path: Path) -> None:
    with (
        mock.patch('os.fsync', side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        write_durably(tmp_path / 'a.pth', b'new')
    assert not list(tmp_path.iterdir())


REASONS = {
    errno.EDQUOT: 'your quota on its disk is used up: it needs 2.0 MB. ',
    errno.EACCES: 'the system says: Permission denied. ',
    errno.EROFS: 'the system says: Read-only file system. ',
    errno.EFBIG: 'it is larger than files may be here: it needs 2.0 MB, and the file system takes',
}


@pytest.mark.parametrize('number', REASONS)
def test_reason_is_that_of_the_system(tmp_path: Path, number: int) -> None:
    with (
        mock.patch('os.fsync', side_effect=OSError(number, 'reason')),
        pytest.raises(NotWrittenError) as error,
    ):
        write_durably(tmp_path / 'iter_1.pth', bytes(2_000_000))
    text = str(error.value.with_intact('Nothing is lost.'))
    assert f'iter_1.pth could not be written, because {REASONS[number]}' in text
    assert text.endswith('. Nothing is lost.')
    assert isinstance(error.value, DiskFullError) is (number in (errno.EDQUOT, errno.EFBIG))
    assert not list(tmp_path.iterdir())


def test_error_reaches_other_processes(tmp_path: Path) -> None:
    """The first process tells the others by pickle."""
    error = DiskFullError(tmp_path / 'a.pth', 2_000_000, 'Nothing is lost.', errno.EFBIG)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.path) == (DiskFullError, str(error), error.path)


@pytest.mark.parametrize('free, words', [(10, 'disk is full'), (10**9, 'disk takes no more')])
def test_full_and_otherwise_full(tmp_path: Path, free: int, words: str) -> None:
    """A disk may have space left and no room for another file."""
    with mock.patch('shutil.disk_usage', return_value=mock.Mock(free=free)):
        text = str(DiskFullError(tmp_path / 'iter_1.pth', 2_000_000))
    assert f'{words}: it needs 2.0 MB, and {free / 1e6:.1f} MB are free' in text


def write_with_limit(path: Path, limit: int) -> None:
    """Write a file in a process that may write no large ones; leave the message."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_durably(path, bytes(2_000_000))
    except DiskFullError as error:
        path.with_suffix('.txt').write_text(str(error))


def test_limit_of_the_size_of_files(tmp_path: Path) -> None:
    process = start(write_with_limit, tmp_path / 'iter_1.pth', 500_000)
    process.join()
    text = (tmp_path / 'iter_1.txt').read_text()
    assert 'it needs 2.0 MB, and the file-size limit of this process is 0.5 MB' in text
    assert 'full' not in text and 'free' not in text
    assert os.listdir(tmp_path) == ['iter_1.txt']


def test_failure_after_the_best_checkpoint(tmp_path: Path) -> None:
    """The checkpoint that cannot be written is the one that is complete."""
    put = DurableBackend.put

    def fail_second(backend: DurableBackend, content: bytes, path: str) -> None:
        if Path(path).is_file():
            raise DiskFullError(Path(path), len(content))
        put(backend, content, path)

    with (
        mock.patch.object(DurableBackend, 'put', fail_second),
        pytest.raises(DiskFullError) as error,
    ):
        run(tmp_path, checkpoint=dict(interval=4))
    last = tmp_path / 'iter_4.pth'
    assert f'The last complete checkpoint: {last}, in its first version' in str(error.value)
    assert names(tmp_path) == ['best_error_iter_4.pth', 'iter_4.pth', 'last_checkpoint']
    rest = run(tmp_path, resume='auto', checkpoint=dict(interval=4))
    assert rest.validated[0] == 4 and min(rest.losses) == 5


def test_folder_of_checkpoints_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotWrittenError, match=r'file/work could not be written.*Not a directory'):
        run(tmp_path / 'work', checkpoint=dict(out_dir=str(tmp_path / 'file')))


def fill_disk(runner: Any) -> None:
    """An action: from now on there is no room for checkpoints."""
    mock.patch.object(Path, 'open', full_disk).start()


def test_full_disk_in_training(tmp_path: Path) -> None:
    """Not even the one checkpoint that is kept is given up for one that does not fit."""
    try:
        with pytest.raises(DiskFullError) as error:
            run(tmp_path, at=5, action=fill_disk, checkpoint=dict(max_keep_ckpts=1))
    finally:
        mock.patch.stopall()
    text = str(error.value)
    assert str(tmp_path / 'iter_6.pth') in text and 'MB are free' in text
    assert f'The last complete checkpoint: {tmp_path / "iter_4.pth"}' in text
    assert names(tmp_path) == ['best_error_iter_4.pth', 'iter_4.pth', 'last_checkpoint']
    assert not drafts(tmp_path)
    rest = run(tmp_path, resume='auto', checkpoint=dict(max_keep_ckpts=1))
    assert min(rest.losses) == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this process may mount one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip('no right to mount a file system')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def test_real_full_disk(small_disk: Path) -> None:
    path = small_disk / 'iter_3.pth'
    write_durably(path, bytes(100_000))
    with pytest.raises(DiskFullError, match=r'it needs 0\.2 MB, and 0\.2 MB are free'):
        write_durably(small_disk / 'iter_6.pth', bytes(200_000))
    with pytest.raises(DiskFullError):
        write_durably(path, bytes(200_000))
    assert path.stat().st_size == 100_000
    assert os.listdir(small_disk) == ['iter_3.pth']


def test_old_checkpoints_are_removed_last(tmp_path: Path) -> None:
    """While a checkpoint is written, those that it replaces are there."""
    there = {}
    write = durable_files.write_durably

    def watch(path: Path, content: bytes) -> None:
        there[path.name] = names(tmp_path)
        write(path, content)

    with mock.patch.object(durable_files, 'write_durably', watch):
        run(tmp_path, checkpoint=dict(max_keep_ckpts=2, interval=2, save_best=None))
    assert there['iter_8.pth'] == ['iter_4.pth', 'iter_6.pth', 'last_checkpoint']
    assert names(tmp_path) == ['iter_10.pth', 'iter_12.pth', 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_12.pth')


def test_best_checkpoint_is_replaced_last(tmp_path: Path) -> None:
    there = {}
    write = durable_files.write_durably

    def watch(path: Path, content: bytes) -> None:
        there[path.name] = [name for name in names(tmp_path) if name.startswith('best')]
        write(path, content)

    metrics = [dict(error=error) for error in (3.0, 2.0, 2.5)]
    with (
        mock.patch.object(durable_files, 'write_durably', watch),
        mock.patch('toy_training.ToyMetric.compute_metrics', side_effect=metrics),
    ):
        run(tmp_path)
    assert there['best_error_iter_8.pth'] == ['best_error_iter_4.pth']
    assert [name for name in names(tmp_path) if 'best' in name] == ['best_error_iter_8.pth']


def test_validation_alone_keeps_nothing(tmp_path: Path) -> None:
    assert make_runner(tmp_path).val()['error'] > 0
    assert not list(tmp_path.glob('*.pth'))


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    for name in ('iter_3.pth', 'last_checkpoint'):
        draft_of(tmp_path / name).write_bytes(b'half')
    (tmp_path / '.keep').touch()
    run(tmp_path, log_level='INFO')
    assert drafts(tmp_path) == ['.keep']
    assert 'Removed' in read_log(tmp_path)


def slow_training(folder: Path, pieces: Any) -> None:
    """Train on a slow disk; counts the pieces that are written."""
    os.setpgrp()  # the test kills the workers, too

    class SlowFile(io.FileIO):
        def write(self, content: Any) -> int:
            view = memoryview(content)
            size = len(view) // 8 + 1
            for begin in range(0, len(view), size):
                super().write(view[begin : begin + size])
                pieces.value += 1
                time.sleep(0.01)
            return len(view)

    def slow_open(path: Path, *args: Any, **kwargs: Any) -> Any:
        return SlowFile(path, 'wb') if args == ('wb',) else open(path, *args, **kwargs)

    with mock.patch.object(Path, 'open', slow_open):
        runner = make_runner(folder, resume='auto', data=dict(workers=1))
        runner.train()


def kill_and_check(folder: Path, moment: int) -> int:
    """Kill a training after some written pieces; returns the number of its checkpoints."""
    pieces = multiprocessing.Value('i', lock=False)
    process = start(slow_training, folder, pieces)
    while pieces.value < moment:
        assert process.exitcode is None, 'it has ended by itself'
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    paths = list(folder.glob('*.pth'))
    for path in paths:
        assert {'meta', 'state_dict'} <= set(load_safely(path)), path
    note = folder / 'last_checkpoint'
    if note.exists():
        assert Path(note.read_text()).is_file()
    return len(paths)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Every file that has its name is whole, and in the end nothing is different."""
    whole = run(tmp_path / 'whole').runner
    folder = tmp_path / 'work'
    folder.mkdir()
    found = [kill_and_check(folder, moment) for moment in KILLS]
    assert found[-1] > 0
    run(folder, resume='auto')
    ours, theirs = (load_safely(path / 'iter_12.pth') for path in (folder, tmp_path / 'whole'))
    assert ours['state_dict'].keys() == whole.model.state_dict().keys()
    for name, value in ours['state_dict'].items():
        torch.testing.assert_close(value, theirs['state_dict'][name], rtol=0, atol=0)
    assert not drafts(folder)
