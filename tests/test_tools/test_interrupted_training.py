"""tools/train.py that is stopped, killed or out of space, and its next start."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from mmengine.hooks import CheckpointHook
from test_train_test import PATIENCE, TOOLS, train_tool, write_config, write_data

from mmdet_salience.engine.durable_files import DiskFullError
from mmdet_salience.engine.work_folder_lock import FolderInUseError


def train_and_act(config: Path, action: Callable[[], Any]) -> None:
    """Run the tool; call something after the first step."""
    original = CheckpointHook.after_train_iter

    def act(hook: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        original(hook, runner, *args, **kwargs)
        if runner.iter == 0:
            action()

    with (
        mock.patch.object(CheckpointHook, 'after_train_iter', act),
        mock.patch('mmengine.runner.runner.collect_env', dict),  # which calls compilers
    ):
        train_tool.main([str(config), '--work-dir', str(config.parent / 'work'), '--resume'])


def exit_status(config: Path, action: Callable[[], Any]) -> int:
    """Run the tool in a process of its own."""
    process = multiprocessing.get_context('fork').Process(
        target=train_and_act, args=(config, action)
    )
    process.start()
    process.join(PATIENCE)
    return process.exitcode


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A tiny config with its data: two steps an epoch, one epoch."""
    write_data(tmp_path)
    return write_config(tmp_path, extra='env_cfg = dict()\n')


def test_signal_and_resume(config: Path) -> None:
    """The same command line both times, as in a queue."""
    work = config.parent / 'work'
    assert exit_status(config, lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert (work / 'interrupted_iter_1.pth').is_file()
    assert exit_status(config, lambda: None) == 0
    assert torch.load(work / 'epoch_1.pth', weights_only=False)['meta']['iter'] == 2
    assert not (work / 'interrupted_iter_1.pth').exists()


def test_unusable_checkpoints_are_one_line(config: Path, capsys: pytest.CaptureFixture) -> None:
    work = config.parent / 'work'
    work.mkdir()
    (work / 'epoch_1.pth').write_bytes(b'')
    for value in ([], [str(work / 'epoch_1.pth')]):
        with pytest.raises(SystemExit) as stop:
            train_tool.main([str(config), '--work-dir', str(work), '--resume', *value])
        assert stop.value.code == 2
        text = capsys.readouterr().err
        assert 'Traceback' not in text
        assert ('none of the 1 checkpoints' in text) is (not value)
        reason = 'epoch_1.pth cannot be read as a checkpoint: 0 bytes, empty'
        assert (reason in text) is bool(value)


def test_work_folder_that_cannot_be_made_is_one_line(
    config: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        train_tool.main([str(config), '--work-dir', str(config / 'work')])
    assert stop.value.code == 2
    assert f"Not a directory: '{config}/work" in capsys.readouterr().err


def test_running_training_is_one_line(config: Path) -> None:
    """Its folder of checkpoints is known when the hooks are there."""
    (config.parent / 'shared' / 'work').mkdir(parents=True)
    shared = config.parent / 'shared'
    options = ['--cfg-options', f'default_hooks.checkpoint.out_dir={shared}']
    error = FolderInUseError('in use')
    with (
        mock.patch('mmdet_salience.engine.durable_runner.claim', side_effect=[None, None, error]),
        pytest.raises(SystemExit, match=r'^error: in use'),
    ):
        train_tool.main([str(config), '--work-dir', str(config.parent / 'work'), *options])


def test_full_disk_is_one_line(config: Path) -> None:
    error = DiskFullError(config.parent / 'epoch_1.pth', 10)
    with (
        mock.patch('mmdet_salience.engine.durable_files.write_durably', side_effect=error),
        pytest.raises(SystemExit, match=r'error: .*epoch_1\.pth could not be written.*: none'),
    ):
        train_tool.main([str(config), '--work-dir', str(config.parent / 'work')])


MOMENTS = {
    'PyTorch is being imported': lambda work, errors: 'torch._C' in errors.read_text(),
    'the runner is being built': lambda work, errors: list(work.glob('*/*.log')),
}


@pytest.mark.parametrize('moment', MOMENTS)
@pytest.mark.parametrize('tool', ['train', 'test'])
def test_ctrl_c_before_the_first_step(config: Path, moment: str, tool: str) -> None:
    work, errors = config.parent / 'work', config.parent / 'errors.txt'
    checkpoint = [] if tool == 'train' else [str(config)]
    command = [sys.executable, str(TOOLS / f'{tool}.py'), str(config), *checkpoint]
    deadline = time.monotonic() + PATIENCE
    with (
        errors.open('w') as stream,
        subprocess.Popen(
            [*command, '--work-dir', str(work)],
            env=dict(os.environ, PYTHONPROFILEIMPORTTIME='1'),  # says what is imported
            stdout=subprocess.DEVNULL,
            stderr=stream,
        ) as process,
    ):
        while not MOMENTS[moment](work, errors):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert 'Traceback' not in errors.read_text()
