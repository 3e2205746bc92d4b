"""Training several configs with several seeds: the table by pencil, and a run from end to end."""

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
from coco_samples import make_coco, write_coco
from helpers import COCO_CONFIG, ROOT, tiny_model_cfg
from mmengine.config import Config


def load_tool() -> ModuleType:
    """Import the tool under a name of its own."""
    path = ROOT / 'tools' / 'analysis_tools' / 'compare_trainings.py'
    spec = importlib.util.spec_from_file_location('tools_compare_trainings', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def metrics(ap: float, large: float = -1.0) -> dict[str, float]:
    """Metrics of a validation."""
    keys = dict.fromkeys(tool.METRICS.values(), 0.5)
    return {**keys, 'coco/bbox_mAP': ap, 'coco/bbox_mAP_l': large}


def test_mean_and_spread() -> None:
    results = dict(
        weak={0: metrics(0.1), 1: metrics(0.3)},
        good={0: metrics(0.4, large=0.7), 1: metrics(0.6)},
        new={1: metrics(0.2)},
    )
    table = tool.tabulate(results)
    assert [row[0] for row in table.rows] == ['good', 'weak', 'new']
    good, weak, new = table.rows
    assert good[2] == '0.500 ± 0.141'  # sqrt((0.1^2 + 0.1^2) / 1)
    assert good[-1] == '0.400 0.600'
    assert (good[6], weak[6]) == ('0.700', '-')
    assert (new[1], new[2]) == ('1', '0.200')


def write_config(tmp_path: Path) -> str:
    """Write the config of a tiny detector that trains one step on two images."""
    write_coco(tmp_path / 'data', make_coco(2), 'all.json')
    cfg = Config.fromfile(COCO_CONFIG)
    cfg.model = tiny_model_cfg(num_classes=None)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
        cfg[key].dataset.update(
            data_root=str(tmp_path / 'data'), ann_file='all.json', data_prefix=dict(img='')
        )
        cfg[key].dataset.metainfo = None
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.logger.interval = 1
    path = tmp_path / 'tiny.py'
    cfg.dump(path)
    return str(path)


def test_trains_once_each(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config, work = write_config(tmp_path), tmp_path / 'runs'
    argv = [config, '--work-dir', str(work), '--seeds', '3']
    assert tool.main(argv) == 0
    results = json.loads((work / 'trainings.json').read_text())
    assert results['tiny']['3']['coco/bbox_mAP'] >= 0
    assert 'seed: 3' in next((work / 'tiny_s3').glob('*/*.log')).read_text()
    assert '| tiny | 1 |' in (work / 'trainings.md').read_text()
    assert 'AP after equal training' in capsys.readouterr().out
    with mock.patch.object(subprocess, 'run') as again:
        assert tool.main(argv) == 0
    again.assert_not_called()


def test_failure_is_reported_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'broken.py').write_text('model = dict(')
    done = tmp_path / 'runs' / 'fine_s0'
    done.mkdir(parents=True)
    (done / 'result.json').write_text(json.dumps(metrics(0.25)))
    (tmp_path / 'fine.py').write_text('')
    configs = [str(tmp_path / 'broken.py'), str(tmp_path / 'fine.py')]
    assert tool.main([*configs, '--work-dir', str(tmp_path / 'runs'), '--seeds', '0']) == 1
    printed = capsys.readouterr()
    assert 'broken_s0 failed' in printed.err
    assert '0.250' in printed.out


def test_wrong_use_is_one_message(capsys: pytest.CaptureFixture) -> None:
    for argv, message in ((['none.py'], 'none.py'), (['a.py', '--jobs', '0'], '--jobs')):
        with pytest.raises(SystemExit) as stop:
            tool.main(argv)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
