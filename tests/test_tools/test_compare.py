"""tools/analysis_tools/compare.py from the command line to its files."""

import csv
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import cv2
import pytest
import torch
from coco_samples import make_coco, write_coco
from helpers import ROOT, build, tiny_model_cfg

sys.path.insert(0, str(ROOT / 'tests' / 'test_analysis'))  # for tiny_detectors

from tiny_detectors import tiny_dino_cfg, whole_config

from mmdet_salience.analysis import costs


def load_tool() -> ModuleType:
    """Import the tool under a name of its own."""
    path = ROOT / 'tools' / 'analysis_tools' / 'compare.py'
    spec = importlib.util.spec_from_file_location('tools_compare', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare_tool = load_tool()


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    """Salience DETR and DINO whose data lies elsewhere."""
    paths = []
    models = dict(salience=tiny_model_cfg(num_classes=None), dino=tiny_dino_cfg(num_classes=None))
    for name, model in models.items():
        path = tmp_path / f'{name}.py'
        whole_config(model).dump(path)
        paths.append(str(path))
    return paths


@pytest.fixture(autouse=True)
def quick_memory() -> None:
    """No fresh processes; test_measurements has one."""
    with mock.patch.object(costs, 'peak_cpu_memory', return_value=12.5):
        yield


def run(out_dir: Path, *argv: str) -> list[dict[str, str]]:
    """Compare on small images, and read the CSV."""
    options = ['--device', 'cpu', '--shape', '60', '90', '--repeats', '2', '--warmup', '0']
    compare_tool.main([*argv, *options, '--out-dir', str(out_dir)])
    with (out_dir / 'comparison.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_two_configs(configs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """All files are written; the first is the yardstick; no data is needed without checkpoints."""
    out = tmp_path / 'out'
    first, second = run(out, *configs)
    assert (first['name'], second['name']) == ('salience', 'dino')
    assert float(first['latency_ratio']) == 1.0
    assert (first['padded_height'], first['padded_width']) == ('64', '96')
    # 8 x 12, 4 x 6, 2 x 3 and 1 x 2 tokens, all of which begin within the image:
    # int(96 * 0.4) + int(24 * 0.8) + 6 + 2 of 128, and half of them.
    assert (first['layer_tokens'], second['layer_tokens']) == ('65 32', '128 128')
    assert (first['memory_mib'], first['ap']) == ('12.5', '')
    assert 0 < int(first['trainable_parameters']) < int(first['parameters'])
    assert sorted(path.name for path in out.iterdir()) == [
        f'comparison.{suffix}' for suffix in ('csv', 'json', 'md', 'png')
    ]
    printed = capsys.readouterr().out
    assert 'Multiply-adds (G)' in printed
    assert cv2.imread(str(out / 'comparison.png')).shape[1] > 800
    command = (out / 'comparison.md').read_text().split('```')[1].removeprefix('bash\n')
    assert shlex.split(command)[:4] == ['python', 'tools/analysis_tools/compare.py', *configs]


def test_ap_with_a_checkpoint(configs: list[str], tmp_path: Path) -> None:
    """Only the config with a checkpoint gets an AP; both models get the classes of the data."""
    write_coco(tmp_path / 'data', make_coco(3), 'val.json')
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=build(tiny_model_cfg(num_classes=2)).state_dict()), weights)
    options = ['--checkpoint', f'salience={weights}', '--max-images', '2']
    moved = ['--cfg-options', f'data_root={tmp_path / "data"}/']
    with mock.patch.object(
        compare_tool, 'measure_costs', wraps=compare_tool.measure_costs
    ) as measured:
        first, second = run(tmp_path / 'out', *configs, *options, *moved)
    assert measured.call_args.args[1].num_classes == 2
    assert 0 <= float(first['ap']) <= float(first['ap50']) <= 1
    assert (first['ap_large'], second['ap']) == ('', '')
    settings = json.loads((tmp_path / 'out' / 'comparison.json').read_text())['settings']
    assert settings['data'].startswith('val, 2 images of ')


def assert_exits(capsys: pytest.CaptureFixture, message: str, *argv: str) -> None:
    """Check that the tool ends with a usage error that contains a message."""
    with pytest.raises(SystemExit) as stop:
        compare_tool.main(argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error


def test_wrong_files(configs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Missing or unreadable configs, checkpoints and data are named."""
    wrong, empty = tmp_path / 'wrong.py', tmp_path / 'empty.py'
    wrong.write_text('model = dict(')
    empty.write_text('x = 1\n')
    weights = tmp_path / 'weights.pth'
    weights.touch()
    assert_exits(capsys, 'there is no config file none.py', configs[0], 'none.py')
    assert_exits(capsys, 'wrong.py is no readable config', str(wrong))
    assert_exits(capsys, 'empty.py has no model', str(empty))
    assert_exits(capsys, 'no checkpoint none.pth', configs[0], '--checkpoint', 'none.pth')
    assert_exits(capsys, '1 entries for 2 configs', *configs, '--checkpoint', 'none.pth')
    assert_exits(capsys, 'val.json', configs[0], '--checkpoint', str(weights))


def test_wrong_options(configs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Impossible numbers and settings are refused before anything is measured."""
    taken = tmp_path / 'taken'
    taken.touch()
    assert_exits(capsys, '--repeats must be at least 1', configs[0], '--repeats', '0')
    assert_exits(capsys, '--max-images must be', configs[0], '--max-images', '0')
    assert_exits(capsys, '--shape must be at least 32', configs[0], '--shape', '16', '64')
    assert_exits(capsys, 'cannot be made', configs[0], '--out-dir', str(taken))
    setting = 'model.encoder.num_layers=9'
    small = ['--shape', '64', '64', '--cfg-options', setting]
    assert_exits(capsys, 'salience.py cannot be built', configs[0], *small)
    with mock.patch.object(torch.cuda, 'is_available', return_value=False):
        assert_exits(capsys, '--device cuda needs a GPU', configs[0], '--device', 'cuda')
