"""Ctrl-C, SIGTERM and SIGHUP end a training in order, in one process and in several."""

import math
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from torch import Tensor
from toy_training import (
    Recorder,
    ToyData,
    ToyMetric,
    ToyModel,
    make_runner,
    read_log,
    run,
    start,
)

from mmdet_salience.engine.hooks import NonFiniteLossHook
from mmdet_salience.engine.stopping import StopSignals
from mmdet_salience.utils.safe_load import load_safely

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
PATIENCE = 60  # seconds


def send(number: int) -> Callable[[Any], None]:
    """An action: send a signal to this process."""
    return lambda runner: os.kill(os.getpid(), number)


def stop(folder: Path, at: int, number: int = signal.SIGTERM, **settings: Any) -> Recorder:
    """Train until a signal after a step."""
    recorder = Recorder(at, send(number))
    with pytest.raises(SystemExit) as error:
        make_runner(folder, recorder, log_level='INFO', **settings).train()
    assert error.value.code == STATUS[number]
    return recorder


def interrupted(folder: Path) -> list[str]:
    """Checkpoints that signals have left."""
    return sorted(path.name for path in folder.glob('interrupted*'))


@pytest.mark.parametrize('number', STATUS)
@pytest.mark.parametrize('by_epoch', [False, True])
def test_step_is_finished_and_the_run_goes_on(tmp_path: Path, by_epoch: bool, number: int) -> None:
    """Also in the middle of an epoch."""
    whole = run(tmp_path / 'whole', by_epoch=by_epoch)
    work = tmp_path / 'work'
    handlers = [signal.getsignal(n) for n in STATUS]
    first = stop(work, 8, number, by_epoch=by_epoch)
    assert [signal.getsignal(n) for n in STATUS] == handlers
    assert max(first.losses) == 8
    assert interrupted(work) == ['interrupted_iter_8.pth']
    assert (work / 'last_checkpoint').read_text() == str(work / 'interrupted_iter_8.pth')
    name = 'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name
    assert f'Stopped by {name} after iteration 8. Saved: {work}' in read_log(work)
    assert 'same command with --resume' in read_log(work)
    rest = run(work, resume='auto', by_epoch=by_epoch)
    assert rest.losses == {step: whole.losses[step] for step in range(9, len(whole.losses) + 1)}
    assert rest.rates == {step: whole.rates[step] for step in rest.rates}
    assert first.validated + rest.validated == whole.validated
    assert not interrupted(work), 'a later checkpoint has replaced it'


def test_stopped_twice(tmp_path: Path) -> None:
    stop(tmp_path, 5)
    second = stop(tmp_path, 7, resume='auto')
    assert sorted(second.losses) == [6, 7]
    assert interrupted(tmp_path) == ['interrupted_iter_7.pth']


def test_regular_checkpoint_of_the_same_step_is_enough(tmp_path: Path) -> None:
    stop(tmp_path, 6)
    assert not interrupted(tmp_path)
    assert min(run(tmp_path, resume='auto').losses) == 7


def test_end_of_an_epoch(tmp_path: Path) -> None:
    """The epoch's last step was done, but not what follows an epoch."""
    whole = run(tmp_path / 'whole', by_epoch=True)
    stop(tmp_path / 'work', 10, by_epoch=True)
    rest = run(tmp_path / 'work', resume='auto', by_epoch=True)
    assert rest.losses == {step: whole.losses[step] for step in range(11, 16)}
    assert rest.validated == [10, 15]


def test_gradients_are_not_left_behind(tmp_path: Path) -> None:
    """With accumulation the weights change every third step."""
    settings = dict(wrapper=dict(accumulative_counts=3), checkpoint=dict(interval=100))
    whole = run(tmp_path / 'whole', **settings)
    stop(tmp_path / 'work', 4, **settings)
    rest = run(tmp_path / 'work', resume='auto', **settings)
    assert rest.losses == {step: whole.losses[step] for step in range(7, 13)}


def test_validation_is_left(tmp_path: Path) -> None:
    """Weights and average are put back, and the validation is done again."""
    whole = run(tmp_path / 'whole')
    process = ToyMetric.process

    def process_and_send(*args: Any) -> None:
        process(*args)
        send(signal.SIGTERM)(None)

    with (
        mock.patch.object(ToyMetric, 'process', process_and_send),
        pytest.raises(SystemExit),
    ):
        run(tmp_path / 'work')
    assert interrupted(tmp_path / 'work') == ['interrupted_iter_4.pth']
    rest = run(tmp_path / 'work', resume='auto')
    assert rest.validated == [4, 8, 12]
    assert rest.losses == {step: whole.losses[step] for step in range(5, 13)}


@pytest.mark.parametrize('by_epoch', [False, True])
def test_what_was_learnt_before_a_bad_batch_is_kept(tmp_path: Path, by_epoch: bool) -> None:
    """The run goes on when the file is mended, and nothing is different."""
    whole = run(tmp_path / 'whole', by_epoch=by_epoch)
    work = tmp_path / 'work'
    error = OSError('the disk is gone')

    def break_disk(runner: Any) -> None:
        mock.patch.object(ToyData, 'prepare_data', side_effect=error).start()

    try:
        with pytest.raises(OSError, match='the disk is gone'):
            run(work, at=7, action=break_disk, by_epoch=by_epoch, log_level='INFO')
    finally:
        mock.patch.stopall()
    assert 'Stopped by OSError after iteration 7. Saved: ' in read_log(work)
    rest = run(work, resume='auto', by_epoch=by_epoch)
    assert rest.losses == {step: whole.losses[step] for step in range(8, len(whole.losses) + 1)}


def train_with_a_bad_loss(folder: Path, at: int) -> None:
    """Train until a loss that is no number."""
    runner = make_runner(folder)
    runner.register_hook(NonFiniteLossHook())
    losses = iter([1.0] * (at - 1) + [math.nan])
    forward = ToyModel.forward

    def spoil(model: ToyModel, inputs: list[Tensor], mode: str = 'tensor') -> Any:
        found = forward(model, inputs, mode)
        return {'loss': found['loss'] * next(losses)} if mode == 'loss' else found

    with mock.patch.object(ToyModel, 'forward', spoil), pytest.raises(FloatingPointError):
        runner.train()


def test_what_was_learnt_before_a_bad_loss_is_kept(tmp_path: Path) -> None:
    """Weights and optimizer are those of the step before."""
    whole = run(tmp_path / 'whole')
    train_with_a_bad_loss(tmp_path / 'work', at=8)
    assert interrupted(tmp_path / 'work') == ['interrupted_iter_7.pth']
    rest = run(tmp_path / 'work', resume='auto')
    assert rest.losses == {step: whole.losses[step] for step in range(8, 13)}


def test_nothing_is_kept_where_nothing_was_learnt(tmp_path: Path) -> None:
    train_with_a_bad_loss(tmp_path, at=1)
    assert not list(tmp_path.glob('*.pth'))


def train_in_a_group(folder: Path, at: int, action: Callable[[Any], None], **settings: Any) -> None:
    """Train in a process group of its own."""
    os.setpgrp()
    run(folder, at, action, **settings)


def signal_the_group(number: int) -> Callable[[Any], None]:
    """An action: send a signal to all processes of the training, as terminals and Slurm do."""
    return lambda runner: os.killpg(0, number)


@pytest.mark.parametrize('number', STATUS)
@pytest.mark.parametrize('persistent', [False, True])
def test_workers_outlive_the_signal(tmp_path: Path, number: int, persistent: bool) -> None:
    data = dict(workers=2, persistent=persistent)
    process = start(train_in_a_group, tmp_path, 5, signal_the_group(number), data=data)
    process.join(PATIENCE)
    assert process.exitcode == STATUS[number]
    assert interrupted(tmp_path) == ['interrupted_iter_5.pth']
    deadline = time.monotonic() + PATIENCE
    while group_lives(process.pid):
        assert time.monotonic() < deadline, 'workers are left'
        time.sleep(0.05)


def group_lives(group: int) -> bool:
    """Whether there are processes in a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    """Here in the middle of a step."""

    def press_twice(runner: Any) -> None:
        send(signal.SIGINT)(runner)
        send(signal.SIGINT)(runner)
        time.sleep(PATIENCE)

    process = start(run, tmp_path, 5, press_twice)
    process.join(PATIENCE / 2)
    assert process.exitcode == -signal.SIGINT
    assert not interrupted(tmp_path)


def test_echo_of_a_launcher_is_no_second_ctrl_c() -> None:
    with StopSignals(launched=True) as signals:
        send(signal.SIGINT)(None)
        send(signal.SIGINT)(None)
        send(signal.SIGTERM)(None)
        assert signals.agreed() == signal.SIGINT


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP])
def test_ignored_signals_stay_ignored(number: int) -> None:
    """As under nohup, and in the background of a script."""
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send(number)(None)
            assert signals.agreed() == 0
    finally:
        signal.signal(number, handler)


def close_standard_error(runner: Any) -> None:
    """An action: write where nobody reads any more, and be told so."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    send(signal.SIGHUP)(runner)


def test_closed_terminal(tmp_path: Path) -> None:
    """Also what the process says about it goes nowhere."""
    process = start(run, tmp_path, 5, close_standard_error)
    process.join(PATIENCE)
    assert process.exitcode == 129
    assert interrupted(tmp_path) == ['interrupted_iter_5.pth']


def train_as_rank(folder: Path, rank: int, port: int, at: int) -> None:
    """Train as one of two processes; the second gets the signal."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
    )  # fmt: skip
    recorder = Recorder(at, send(signal.SIGTERM) if rank == 1 else None)
    try:
        resume = 'auto' if (folder / 'last_checkpoint').exists() else False
        make_runner(folder, recorder, launcher='pytorch', resume=resume).train()
    finally:
        steps = ' '.join(f'{step}:{loss:.9g}' for step, loss in recorder.losses.items())
        (folder / f'losses_{rank}.txt').write_text(steps)


def train_two(folder: Path, at: int = -1) -> tuple[list[int | None], list[dict[int, float]]]:
    """Train in two processes; returns their exit status and losses."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    processes = [start(train_as_rank, folder, rank, port, at) for rank in range(2)]
    for process in processes:
        process.join(PATIENCE)
    texts = [(folder / f'losses_{rank}.txt').read_text().split() for rank in range(2)]
    losses = [{int(k): float(v) for k, v in (item.split(':') for item in text)} for text in texts]
    return [process.exitcode for process in processes], losses


def test_processes_agree_where_they_stop(tmp_path: Path) -> None:
    status, whole = train_two(tmp_path / 'whole')
    assert status == [0, 0] and whole[0] != whole[1]
    status, first = train_two(tmp_path / 'work', at=5)
    assert status == [143, 143]
    assert [max(losses) for losses in first] == [5, 5]
    assert load_safely(tmp_path / 'work' / 'interrupted_iter_5.pth')['meta']['iter'] == 5
    status, rest = train_two(tmp_path / 'work')
    assert status == [0, 0]
    for ours, theirs in zip(rest, whole, strict=True):
        assert ours == {step: theirs[step] for step in range(6, 13)}
