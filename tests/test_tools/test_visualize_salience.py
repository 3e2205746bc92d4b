"""The tool that shows what a detector looks at, from the command line to its files."""

import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_samples import make_coco, write_coco
from helpers import ROOT, build, tiny_model_cfg
from mmengine.config import Config

FOLDER = ROOT / 'tools' / 'analysis_tools'
CUSTOM = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_4xb2-10000i_custom.py'

sys.path.insert(0, str(FOLDER))
tool = importlib.import_module('visualize_salience')
main = tool.main


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """Two annotated images and one without objects, a config and a checkpoint."""
    root = tmp_path_factory.mktemp('salience')
    content = make_coco(3)
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 3]
    for split in ('train', 'val'):
        write_coco(root, content, 'annotations.json').rename(root / f'{split}.json')
    cfg = Config.fromfile(CUSTOM)
    cfg.model = tiny_model_cfg(num_classes=None)
    cfg.data_root = f'{root}/'
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(
            ann_file=f'{"train" if split == "train" else "val"}.json', data_prefix=dict(img='')
        )
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.pipeline[1].scale = (96, 96)
    cfg.dump(root / 'tiny.py')
    weights = build(tiny_model_cfg(num_classes=2)).state_dict()
    meta = dict(dataset_meta=dict(classes=('crack', 'pore')))
    torch.save(dict(state_dict=weights, meta=meta), root / 'tiny.pth')
    return root


def run(work: Path, *argv: str) -> None:
    main([str(work / 'tiny.py'), str(work / 'tiny.pth'), '--device', 'cpu', *map(str, argv)])


def page_data(out_dir: Path) -> dict:
    """What the page's script reads."""
    text = (out_dir / 'index.html').read_text()
    data = text.partition('<script type="application/json" id="data">')[2]
    return json.loads(data.partition('</script>')[0])


@pytest.mark.parametrize('split', ['val', 'train'])
def test_split(work, tmp_path, capsys, split):
    run(work, '--split', split, '--out-dir', tmp_path, '--score-thr', '0', '--max-images', '9')
    images = page_data(tmp_path)['images']
    assert [image['name'] for image in images] == ['1.png', '2.png', '3.png']
    assert [len(image['objects']) for image in images] == [2, 2, 0]
    assert [item['name'] for item in images[0]['objects']] == ['crack', 'pore']
    assert images[0]['objects'][0]['box'] == [4, 6, 24, 16]  # no augmentation
    figures = sorted(path.name for path in (tmp_path / 'figures').iterdir())
    assert figures == [f'{number}_salience.png' for number in (1, 2, 3)]
    out = capsys.readouterr().out
    assert '3 of 3 images shown\n4 objects: ' in out
    assert str(tmp_path / 'index.html') in out
    assert '--split' in (tmp_path / 'index.html').read_text()


def test_files_and_folders(work, tmp_path, capsys):
    folder = tmp_path / 'images'
    for name in ('a.png', 'deep/a.jpg', 'notes.txt', 'out/figures/old.png'):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith('txt'):
            path.write_text('no image')
        else:
            cv2.imwrite(str(path), np.full((40, 70, 3), 90, np.uint8))
    (folder / 'broken.png').write_bytes(b'no image')
    (folder / 'empty.png').touch()
    run(work, '--images', folder, work / '1.png', '--out-dir', folder / 'out')
    data = page_data(folder / 'out')
    assert [image['name'] for image in data['images']] == ['a.png', 'a.jpg', '1.png']
    assert all(image['objects'] is None and image['targets'] is None for image in data['images'])
    figures = {path.name for path in (folder / 'out' / 'figures').iterdir()}
    assert figures == {'a_salience.png', 'a_2_salience.png', '1_salience.png', 'old.png'}
    out, err = capsys.readouterr()
    assert '3 of 5 images shown\n2 skipped' in out
    assert 'skipped ' in err and 'broken.png' in err and 'empty.png' in err


def test_first_images_only(work, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, 'draw_inspection', lambda *_: None)
    run(work, '--split', 'val', '--max-images', '1', '--out-dir', tmp_path)
    assert len(page_data(tmp_path)['images']) == 1
    assert '1 of 3 images shown (--max-images shows more)' in capsys.readouterr().out
    run(work, '--split', 'val', '--max-images', '2', '--out-dir', tmp_path)  # replaces its own page
    assert len(page_data(tmp_path)['images']) == 2


def test_no_readable_image(work, tmp_path, capsys):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    with pytest.raises(SystemExit) as stop:
        run(work, '--images', tmp_path, '--out-dir', tmp_path / 'out')
    assert stop.value.code == 1
    assert 'no image could be read' in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'index.html').exists()


def save_checkpoint(path: Path, num_classes: int, classes: tuple) -> Path:
    weights = build(tiny_model_cfg(num_classes=num_classes)).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=classes))), path)
    return path


def test_wrong_use_is_one_message(work, tmp_path, capsys):
    config, weights = str(work / 'tiny.py'), str(work / 'tiny.pth')
    (tmp_path / 'index.html').write_text('my page')
    (tmp_path / 'file').write_text('')
    (tmp_path / 'none').mkdir()
    swapped = str(save_checkpoint(tmp_path / 'swapped.pth', 2, ('pore', 'crack')))
    broken = tmp_path / 'broken.pth'
    broken.write_bytes(b'no checkpoint')
    out, val = ['--out-dir', str(tmp_path / 'out')], ['--split', 'val']
    five = ['--cfg-options', 'model.bbox_head.num_classes=5']
    for argv, message in (
        (['no.py', weights, *val, *out], 'no.py'),
        ([config, 'no.pth', *val, *out], 'there is no checkpoint no.pth'),
        ([config, str(broken), *val, *out], 'broken.pth cannot be read as a checkpoint'),
        ([config, swapped, *val, *out], 'was trained for pore, crack, but the data has crack'),
        ([config, weights, *out], 'one of the arguments --images --split is required'),
        ([config, weights, '--images', 'no.png', *out], 'there is no image or folder no.png'),
        ([config, weights, '--images', str(tmp_path / 'none'), *out], 'no image in'),
        ([config, weights, '--images', str(work), *out, *five], 'trained for 2 classes'),
        ([config, weights, *val, *out, *five], '5, but the data has 2'),
        ([config, weights, *val, '--out-dir', str(tmp_path)], 'is no page of this tool'),
        ([config, weights, *val, '--out-dir', str(tmp_path / 'file')], 'cannot be made'),
        ([config, weights, *val, *out, '--score-thr', '2'], '--score-thr must lie in 0..1'),
        ([config, weights, *val, *out, '--max-images', '0'], '--max-images must be at least 1'),
        ([config, weights, *val, *out, '--device', 'abacus'], '--device abacus cannot be used'),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2, message
        assert message in capsys.readouterr().err
    assert (tmp_path / 'index.html').read_text() == 'my page'
