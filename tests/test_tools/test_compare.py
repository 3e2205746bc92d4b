"""The tool that compares detectors, on tiny ones."""

import csv
import importlib
import json
import sys
from pathlib import Path

import cv2
import pytest
from helpers import COCO_CONFIG, ROOT, tiny_model_cfg
from mmengine.config import Config

sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))
main = importlib.import_module('compare').main


def write_config(path: Path, level_ratios: tuple[float, ...]) -> str:
    """Write the config of a tiny Salience DETR; returns its path."""
    cfg = Config.fromfile(COCO_CONFIG)
    cfg.model = tiny_model_cfg()
    cfg.model.encoder.token_filter.level_ratios = level_ratios
    cfg.dump(path)
    return str(path)


def test_table_files_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sparse = write_config(tmp_path / 'sparse.py', (0.4, 0.8, 1.0, 1.0))
    dense = write_config(tmp_path / 'dense.py', (1.0, 1.0, 1.0, 1.0))
    out = tmp_path / 'out'
    options = ['--shape', '64', '96', '--repeats', '2', '--warmup', '1', '--out-dir', str(out)]
    main([sparse, dense, *options])
    text = capsys.readouterr().out
    assert 'sparse' in text and 'dense' in text
    record = json.loads((out / 'comparison.json').read_text())
    assert len(list(csv.reader((out / 'comparison.csv').open()))) >= 3
    assert 'sparse' in json.dumps(record) and 'dense' in json.dumps(record)
    # 8x12, 4x6, 2x3 and 1x2 tokens: int(96 * 0.4) + int(24 * 0.8) + 8 of 128.
    assert '65 32' in text and '128 64' in text
    assert (out / 'comparison.md').read_text().count('1.000') >= 1
    assert cv2.imread(str(out / 'comparison.png')).shape[1] > 800


def test_wrong_use_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = write_config(tmp_path / 'tiny.py', (0.4, 0.8, 1.0, 1.0))
    for argv, message in (
        (['no.py'], 'no.py'),
        ([config, '--checkpoint', 'no.pth'], 'there is no checkpoint no.pth'),
        ([config, config, '--checkpoint', 'a.pth'], '1 entries for 2 configs'),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
