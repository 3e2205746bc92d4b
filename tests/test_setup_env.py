"""Tests of `tools/dev/setup_env.py`: the checks before anything is installed, and the stamp."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / 'tools' / 'dev' / 'setup_env.py'


def _load() -> ModuleType:
    """Import the script, which is not part of a package."""
    spec = importlib.util.spec_from_file_location('setup_env', SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = _load()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that has nothing but the files an environment is made from."""
    for name in setup_env.STAMP_INPUTS:
        (tmp_path / name).write_text(f'# {name}\n')
    return tmp_path


@pytest.fixture
def environment(repository: Path) -> Any:
    """An environment of `repository` whose Python is the one that runs the tests."""
    folder = repository / '.venv'
    folder.mkdir()
    made = setup_env.Environment(repository, folder, ['c++'])
    made.python = sys.executable
    return made


def _run_script(folder: Path, **variables: str) -> 'subprocess.CompletedProcess[str]':
    """Run the real script for an environment in `folder`, with `variables` set."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), '--venv', str(folder)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize('version', [(3, 6, 15), (3, 9, 18), (2, 7, 18)])
def test_old_python_is_named(version: tuple[int, ...]) -> None:
    """The line says which Python was found, which is needed, and how to choose it."""
    with pytest.raises(setup_env.SetupError) as caught:
        setup_env.check_python(version)
    line = str(caught.value)
    assert line.startswith(f'Python {version[0]}.{version[1]} is too old')
    assert '3.10 or newer' in line and 'make PYTHON=' in line and '\n' not in line


@pytest.mark.parametrize('version', [(3, 10, 0), (3, 13, 1), (4, 0, 0)])
def test_supported_python_passes(version: tuple[int, ...]) -> None:
    """3.10 is the oldest; versions are compared as numbers, not as text."""
    setup_env.check_python(version)


@pytest.mark.parametrize('missing', ['venv', 'ensurepip'])
def test_missing_module_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's Python without python3-venv is recognised."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        setup_env.importlib.util, 'find_spec', lambda name: None if name == missing else real(name)
    )
    with pytest.raises(setup_env.SetupError, match=f'no {missing} module.*python3-venv'):
        setup_env.check_standard_library(Path('unused'))


def test_missing_headers_are_named(tmp_path: Path) -> None:
    """Without Python.h there is one line; with it the check passes."""
    with pytest.raises(setup_env.SetupError, match=r'Python\.h.*python3-dev'):
        setup_env.check_standard_library(tmp_path)
    (tmp_path / 'Python.h').touch()
    setup_env.check_standard_library(tmp_path)


def test_missing_compiler_is_named(tmp_path: Path) -> None:
    """An empty PATH has no compiler, and a wrong CXX is not replaced by a guess."""
    with pytest.raises(setup_env.SetupError, match=r'no C\+\+ compiler was found.*apt install g'):
        setup_env.find_compiler({'PATH': str(tmp_path)})
    with pytest.raises(setup_env.SetupError, match='CXX=/nonexistent was not found'):
        setup_env.find_compiler({'PATH': os.environ['PATH'], 'CXX': '/nonexistent'})


def test_compiler_is_chosen(tmp_path: Path) -> None:
    """The first usual name on PATH is taken; CXX goes before it and may have arguments."""
    for name in ('clang++', 'g++', 'mine'):
        (tmp_path / name).write_text('#!/bin/sh\n')
        (tmp_path / name).chmod(0o755)
    path = {'PATH': str(tmp_path)}
    assert setup_env.find_compiler(path) == ['g++']
    assert setup_env.find_compiler({**path, 'CXX': 'mine -m64'}) == ['mine', '-m64']


@pytest.mark.parametrize('name', setup_env.STAMP_INPUTS)
def test_stamp_follows_files(name: str, repository: Path) -> None:
    """A change to any of the files an environment is made from changes the stamp."""
    before = setup_env.stamp_text(repository, (3, 11, 7))
    assert setup_env.stamp_text(repository, (3, 11, 7)) == before
    (repository / name).write_text('changed\n')
    changed = setup_env.stamp_text(repository, (3, 11, 7))
    (repository / name).unlink()
    assert len({before, changed, setup_env.stamp_text(repository, (3, 11, 7))}) == 3


def test_stamp_follows_python(repository: Path) -> None:
    """A new minor version asks for a new environment; a new patch release does not."""
    before = setup_env.stamp_text(repository, (3, 11, 7))
    assert setup_env.stamp_text(repository, (3, 11, 9)) == before
    assert setup_env.stamp_text(repository, (3, 12, 7)) != before


def test_pin_is_read(repository: Path) -> None:
    """A name that only begins alike is another distribution, and a marker is no version."""
    (repository / 'constraints.txt').write_text(
        'torchvision==9\nscipy==1.17; python_version >= "3.11"\ntorch==2.13.0\n'
    )
    assert setup_env.pinned(repository, 'torch') == '2.13.0'
    assert setup_env.pinned(repository, 'scipy') == '1.17'


def test_jobs_are_bounded_by_memory(tmp_path: Path) -> None:
    """A gigabyte of free memory is enough for one compiler; at least one is always run."""
    meminfo = tmp_path / 'meminfo'
    unbounded = setup_env.parallel_jobs(meminfo)
    meminfo.write_text('MemTotal: 9999999 kB\nMemAvailable:    1900000 kB\n')
    assert setup_env.parallel_jobs(meminfo) == 1
    meminfo.write_text('MemAvailable: 1000 kB\n')
    assert setup_env.parallel_jobs(meminfo) == 1
    meminfo.write_text('MemAvailable: 900000000000 kB\n')
    assert setup_env.parallel_jobs(meminfo) == unbounded


def test_step_failure_has_log_and_remedy(
    environment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of the log is shown, then one line with the log's place and the remedy."""
    command = [sys.executable, '-c', 'print("the reason"); raise SystemExit(3)']
    with pytest.raises(setup_env.SetupError) as caught:
        environment.run('torch', command, 'do this')
    assert str(caught.value) == '[1/6] torch failed (log: .venv/setup.log); do this'
    assert 'the reason' in capsys.readouterr().err


def test_missing_ops_stop(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When mmcv._ext cannot be imported after the installation, the remedy is named."""
    for name in ('create', 'pip', 'install_mmcv', 'repair_cv2'):
        monkeypatch.setattr(environment, name, lambda *_args, **_options: None)
    monkeypatch.setattr(environment, 'ask', lambda *_arguments: None)
    monkeypatch.setattr(setup_env, 'pinned', lambda _root, _name: '1')
    with pytest.raises(setup_env.SetupError, match=r'mmcv\._ext.*pip cache remove onedl_mmcv'):
        environment.build()


def test_foreign_folder_is_kept(environment: Any, tmp_path: Path) -> None:
    """A folder that is no environment is not cleared away."""
    environment.python = str(tmp_path / 'no-python')
    precious = tmp_path / '.venv' / 'precious.txt'
    precious.touch()
    with pytest.raises(setup_env.SetupError, match='move it away'):
        environment.create()
    assert precious.exists()


def test_script_stops_without_compiler(tmp_path: Path) -> None:
    """The real script prints one line, leaves no environment and returns an error status."""
    done = _run_script(tmp_path / 'new', CXX='/nonexistent')
    assert done.returncode == 1 and done.stdout == ''
    assert done.stderr.count('\n') == 1 and done.stderr.startswith('setup: the C++ compiler')
    assert not (tmp_path / 'new').exists()


def test_script_returns_at_once(tmp_path: Path) -> None:
    """With a stamp that fits nothing is looked for, not even a compiler."""
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'python').touch()
    stamp = setup_env.stamp_text(setup_env.ROOT, tuple(sys.version_info))
    (tmp_path / 'setup-stamp.txt').write_text(stamp)
    done = _run_script(tmp_path, CXX='/nonexistent')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
