"""The tool that counts initial queries, on images that the test writes."""

import csv
import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, build, tiny_model_cfg
from mmengine.config import Config

FOLDER = ROOT / 'tools' / 'analysis_tools'
CUSTOM = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_4xb2-10000i_custom.py'

sys.path.insert(0, str(FOLDER))
main = importlib.import_module('query_stats').main


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images with a small and a medium object, a config and a checkpoint."""
    root = tmp_path_factory.mktemp('queries')
    (root / 'annotations').mkdir()
    images, annotations = [], []
    for i in range(3):
        picture = np.random.default_rng(i).integers(0, 255, (96, 128, 3)).astype(np.uint8)
        cv2.imwrite(str(root / f'{i}.png'), picture)
        images.append(dict(id=i, file_name=f'{i}.png', width=128, height=96))
        for number, box in enumerate(([10, 10, 20, 20], [40, 20, 60, 60])):
            place = dict(bbox=box, area=box[2] * box[3], iscrowd=0)
            annotations.append(dict(id=2 * i + number + 1, image_id=i, category_id=1, **place))
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='pore')])
    (root / 'annotations' / 'val.json').write_text(json.dumps(content))
    cfg = Config.fromfile(CUSTOM)
    cfg.model = tiny_model_cfg(num_classes=None, num_queries=40)
    cfg.data_root = f'{root}/'
    cfg.val_dataloader.dataset.pipeline[1].scale = (256, 192)  # twice the size
    cfg.dump(root / 'tiny.py')
    weights = build(tiny_model_cfg(num_classes=1, num_queries=40)).state_dict()
    torch.save(dict(state_dict=weights), root / 'tiny.pth')
    return root


def test_table_and_files(work: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(work / 'tiny.py'), '--checkpoint', str(work / 'tiny.pth'), '--out-dir', str(work)])
    assert 'before removal' in capsys.readouterr().out
    with (work / 'queries.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['size'] for row in rows] == ['small', 'medium', 'large', 'all'] * 2
    assert [row['objects'] for row in rows] == ['3', '3', '0', '6'] * 2
    assert rows[2]['per object'] == '-'
    after = [row for row in rows if row['queries'] == 'after removal']
    assert after[3]['redundant'] == '0.0%'
    record = json.loads((work / 'queries.json').read_text())
    assert 'tiny.pth' in record['command'] and len(record['rows']) == 8
    picture = cv2.imread(str(work / 'queries.png'))
    assert picture.shape[1] > 1000
    assert 'tiny.pth' in (work / 'queries.md').read_text()


def test_wrong_use_is_one_message(work: Path, capsys: pytest.CaptureFixture) -> None:
    for argv, message in (
        ([str(work / 'tiny.py'), '--checkpoint', 'no.pth'], 'there is no checkpoint no.pth'),
        ([str(work / 'tiny.py'), '--checkpoint', '-'], 'tiny has no checkpoint'),
        (['no.py', '--checkpoint', str(work / 'tiny.pth')], 'no.py'),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
