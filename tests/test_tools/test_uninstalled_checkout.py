"""The tools run by path from any folder, without an installation of this package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def run_tool(folder: Path, name: str, *argv: str) -> str:
    """What a tool prints when it is run from a folder; it must succeed."""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    command = [sys.executable, str(TOOLS / name), *argv]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_synthetic_defects_writes_where_it_is_told(tmp_path: Path) -> None:
    options = ('--num-train', '2', '--num-val', '1', '--image-size', '32')
    assert 'train: 2 images' in run_tool(
        tmp_path, 'dataset_converters/synthetic_defects.py', 'set', *options
    )
    assert len(list((tmp_path / 'set' / 'train').glob('*.png'))) == 2


@pytest.mark.parametrize(
    'name, own', [('train.py', '--auto-scale-lr'), ('test.py', 'checkpoint file or address')]
)
def test_help_has_shared_and_own_options(tmp_path: Path, name: str, own: str) -> None:
    text = ' '.join(run_tool(tmp_path, name, '--help').split())
    assert own in text
    assert '--cfg-options KEY=VALUE' in text
    assert 'else work_dirs/NAME_OF_THE_CONFIG' in text
