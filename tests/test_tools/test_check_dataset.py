"""tools/analysis_tools/check_dataset.py: what it prints, writes and exits with."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from coco_samples import make_coco, write_coco, write_image

SCRIPT = Path(__file__).resolve().parents[2] / 'tools/analysis_tools/check_dataset.py'


def _load_script() -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location('check_dataset', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_dataset = _load_script()

CONFIG = """
data_root = '{root}/'
default_scope = 'mmdet'
base = dict(type='CocoDataset', data_root=data_root, data_prefix=dict(img=''){classes})
train_dataloader = dict(dataset=dict(
    type='RepeatDataset', times=2, dataset=dict(base, ann_file='train.json')))
val_dataloader = dict(dataset=dict(base, ann_file='val.json', test_mode=True))
test_dataloader = val_dataloader
"""


def _run(*argv: Any) -> int:
    """Run the tool; its exit status."""
    try:
        check_dataset.main([str(arg) for arg in argv])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def _write_config(root: Path, classes: str = '') -> Path:
    """Write a clean training and validation set, and a config that names them."""
    write_coco(root, make_coco(4), 'train.json')
    write_coco(root, make_coco(2, start=20), 'val.json')
    path = root / 'config.py'
    path.write_text(CONFIG.format(root=root.as_posix(), classes=classes))
    return path


def _change(path: Path, **lists: Any) -> None:
    """Replace lists of an annotation file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **lists}))


def _break(path: Path) -> dict:
    """Break two boxes of an annotation file; what it holds then."""
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [4, 6, 0, 10]
    content['annotations'][1]['bbox'] = [50, 20, 30, 25]
    path.write_text(json.dumps(content))
    return content


def test_clean_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_coco(tmp_path, make_coco())
    assert _run(path, '--image-dir', tmp_path) == 0
    text = capsys.readouterr().out
    assert '4 images, 8 annotations, 2 categories' in text
    assert 'no problems found' in text
    assert ['total', '8', '4', '100.0%', '8', '0', '0', '0'] in map(str.split, text.splitlines())
    assert _run(path) == 0
    assert 'images not looked at; name their folder with --image-dir' in capsys.readouterr().out


def test_errors_and_warnings_decide_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = make_coco()
    path = write_coco(tmp_path, content)
    _change(path, categories=[*content['categories'], dict(id=3, name='stain')])
    assert _run(path) == 0
    assert 'warning unused_category (1)' in capsys.readouterr().out
    (tmp_path / '3.png').unlink()
    assert _run(path, '--image-dir', tmp_path) == 1
    text = capsys.readouterr().out
    assert 'ERROR   missing_image (1)' in text and str(tmp_path / '3.png') in text


def test_all_lists_every_example(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    content = make_coco(30)
    for annotation in content['annotations']:
        annotation['bbox'] = None
    path = write_coco(tmp_path, content)
    assert _run(path) == 1
    assert '... and 55 more' in capsys.readouterr().out
    assert _run(path, '--all') == 1
    text = capsys.readouterr().out
    assert 'more' not in text and text.count('annotation ') >= 60


def test_malformed_files_end_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_coco(tmp_path, make_coco())
    path.write_text(path.read_text()[:-30])
    assert _run(path) == 1
    assert 'cut off' in capsys.readouterr().out
    path.write_text('[]')
    assert _run(path, '--repair', tmp_path / 'new.json') == 1
    assert 'holds a list' in capsys.readouterr().out
    assert not (tmp_path / 'new.json').exists()


def test_wrong_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, config = write_coco(tmp_path, make_coco()), tmp_path / 'c.py'
    other = tmp_path / 'other.json'
    other.write_text('{}')
    config.write_text('model = undefined_name')
    (tmp_path / 'empty.py').write_text('x = 1')
    for argv, message in [
        ([tmp_path / 'none.json'], 'there is no annotation file'),
        ([tmp_path], 'is a folder'),
        ([tmp_path / 'none.py'], 'there is no config file'),
        ([config], 'is no readable config: NameError'),
        ([tmp_path / 'empty.py'], 'no CocoDataset in train, val, test'),
        ([path, '--split', 'val'], 'are for a config'),
        ([path, '--image-dir', tmp_path / 'none'], 'there is no image folder'),
        ([config, '--image-dir', tmp_path], '--image-dir is for an annotation file'),
        ([path, '--categories-from', path], 'needs --repair'),
        ([path, '--repair', path], 'does not overwrite'),
        ([path, '--repair', other], 'does not overwrite'),
        ([path, '--json', path], 'is no report'),
        ([path, '--repair', tmp_path / 'x.json', '--categories-from', 'none.json'], 'there is no'),
    ]:
        assert _run(*argv) == 2
        assert message in capsys.readouterr().err


def test_config_checks_splits_and_pairs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = _write_config(tmp_path)
    assert _run(config) == 0
    text = capsys.readouterr().out
    assert f'train: {tmp_path}/train.json' in text
    assert f'val, test: {tmp_path}/val.json' in text
    assert 'train and val, test: no problems found' in text
    _change(tmp_path / 'val.json', categories=make_coco()['categories'][::-1])
    assert _run(config) == 1
    text = capsys.readouterr().out
    assert 'different_categories' in text and 'train: crack, pore' in text
    assert _run(config, '--split', 'val') == 0
    assert 'train' not in capsys.readouterr().out.replace(str(tmp_path), '')


def test_classes_of_the_config_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = _write_config(tmp_path, ", metainfo=dict(classes=('pore', 'crack'))")
    assert _run(config) == 1
    assert capsys.readouterr().out.count('ERROR   different_classes') == 2
    assert _run(config, '--repair', tmp_path / 'new') == 0
    for split in ('train', 'val'):
        content = json.loads((tmp_path / f'new/{split}.json').read_text())
        assert [category['name'] for category in content['categories']] == ['pore', 'crack']


def test_missing_split_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = _write_config(tmp_path)
    (tmp_path / 'val.json').rename(tmp_path / 'valid.json')
    assert _run(config) == 1
    text = capsys.readouterr().out
    assert 'no problems found' in text
    assert 'val.json; name a file' in text and 'valid.json' in text


def test_data_root_and_concatenated_datasets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'set').mkdir()
    config = _write_config(tmp_path / 'set')
    config.write_text(
        config.read_text().replace(f"'{(tmp_path / 'set').as_posix()}/'", "'nowhere/'")
        + "train_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=["
        "dict(base, ann_file='train.json'), dict(base, ann_file='val.json'),"
        "dict(type='VOCDataset')]))\n"
    )
    assert _run(config, '--cfg-options', f'data_root={tmp_path / "set"}') == 0
    text = capsys.readouterr().out
    assert 'train-2: a VOCDataset is not read like a CocoDataset; skipped' in text
    assert 'train-0 and train-1: no problems found' in text
    assert 'warning shared_image (2)' in text


def test_repair_then_clean(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_coco(tmp_path, make_coco())
    _break(path)
    before = path.read_bytes()
    out = tmp_path / 'new' / 'mended.json'
    assert _run(path, '--image-dir', tmp_path, '--repair', out) == 0
    text = capsys.readouterr().out
    assert 'annotations dropped because their box has no extent: 1' in text
    assert 'boxes clipped to their image: 1' in text
    assert 'no problems found' in text.split('The copies:')[1]
    assert path.read_bytes() == before
    assert len(json.loads(out.read_text())['annotations']) == 7
    assert [file.name for file in out.parent.iterdir()] == ['mended.json']
    assert _run(out, '--image-dir', tmp_path) == 0


def test_pixels_are_decoded_if_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_coco(tmp_path, make_coco())
    damaged = bytearray((tmp_path / '2.png').read_bytes())
    damaged[-20] ^= 16
    (tmp_path / '2.png').write_bytes(damaged)
    assert _run(path, '--image-dir', tmp_path) == 0, 'the header is fine'
    out = tmp_path / 'mended.json'
    assert _run(path, '--image-dir', tmp_path, '--pixels') == 1
    assert '2.png (id 2): not a readable image' in capsys.readouterr().out
    assert _run(path, '--image-dir', tmp_path, '--pixels', '--repair', out) == 0
    assert 'images dropped because their file is not a readable image: 1' in capsys.readouterr().out
    assert [image['id'] for image in json.loads(out.read_text())['images']] == [1, 3, 4]


def test_repair_exits_by_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_coco(tmp_path, make_coco())
    images = json.loads(path.read_text())['images']
    _change(path, images=[*images, dict(images[0], file_name='2.jpg')])
    assert _run(path, '--repair', tmp_path / 'new.json') == 1
    text = capsys.readouterr().out
    assert 'left to you:\n  image id 1 stands for 1.png, 2.jpg' in text
    assert _run(path, '--image-dir', tmp_path.parent, '--repair', tmp_path / 'b.json') == 1
    assert not (tmp_path / 'b.json').exists()


def test_repair_of_a_config_gives_all_splits_the_same_categories(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = _write_config(tmp_path)
    _break(tmp_path / 'train.json')
    val = make_coco(2, start=20)
    val['categories'] = [dict(id=1, name='pore'), dict(id=2, name='crack')]
    (tmp_path / 'val.json').write_text(json.dumps(val))
    assert _run(config, '--repair', tmp_path / 'new') == 0
    assert sorted(p.name for p in (tmp_path / 'new').iterdir()) == ['train.json', 'val.json']
    new = json.loads((tmp_path / 'new/val.json').read_text())
    assert new['categories'] == make_coco()['categories']
    assert [a['category_id'] for a in new['annotations']] == [2, 1, 2, 1]
    assert _run(config, '--repair', tmp_path / 'new') == 2
    assert 'new/train.json exists' in capsys.readouterr().err


def test_categories_of_another_file(tmp_path: Path) -> None:
    train = write_coco(tmp_path, make_coco())
    val = write_coco(tmp_path, make_coco(2, start=20), 'val.json')
    _change(val, categories=[dict(id=1, name='pore'), dict(id=2, name='crack')])
    out = tmp_path / 'new.json'
    assert _run(val, '--repair', out, '--categories-from', train) == 0
    assert json.loads(out.read_text())['categories'] == make_coco()['categories']


def test_report(tmp_path: Path) -> None:
    config = _write_config(tmp_path)
    _break(tmp_path / 'train.json')
    path = tmp_path / 'out' / 'report.json'
    for _ in range(2):  # a report replaces a report
        assert _run(config, '--json', path) == 1
    report = json.loads(path.read_text())
    assert report['num_errors'] == 2
    assert [file['name'] for file in report['files']] == ['train', 'val, test']
    first = report['files'][0]
    assert (first['num_images'], first['num_annotations']) == (4, 8)
    assert first['categories'] == ['crack', 'pore']
    found = {finding['kind']: finding for finding in first['findings']}
    assert found.keys() == {'degenerate_box', 'box_outside_image'}
    assert found['degenerate_box']['count'] == 1 and found['degenerate_box']['is_error']
    assert report['pairs'] == [{'names': ['train', 'val, test'], 'findings': []}]


def test_runs_from_any_folder_without_installation(tmp_path: Path) -> None:
    path = write_coco(tmp_path, make_coco())
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    command = [sys.executable, str(SCRIPT), path.name, '--image-dir', '.']
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 'no problems found' in run.stdout
    assert 'image files' not in run.stderr, 'a bar is for terminals'


def _add_parent(path: Path) -> None:
    """Add the category that Roboflow writes before the others."""
    own = json.loads(path.read_text())['categories']
    own = [dict(category, supercategory='parts') for category in own]
    _change(path, categories=[dict(id=0, name='parts', supercategory='none'), *own])


@pytest.mark.parametrize('classes', ['', ", metainfo=dict(classes=('parts', 'crack', 'pore'))"])
def test_unused_parent_is_dropped_from_all_splits_unless_stated(
    tmp_path: Path, capsys: pytest.CaptureFixture, classes: str
) -> None:
    config = _write_config(tmp_path, classes)
    for split in ('train', 'val'):
        _add_parent(tmp_path / f'{split}.json')
    assert _run(config, '--repair', tmp_path / 'copies') == 0
    printed = capsys.readouterr().out
    assert 'parts (id 0) is only the parent of the other categories' in printed
    expected = ['parts', 'crack', 'pore'] if classes else ['crack', 'pore']
    for split in ('train', 'val'):
        content = json.loads((tmp_path / f'copies/{split}.json').read_text())
        assert [category['name'] for category in content['categories']] == expected


def test_what_the_config_knows_of_pipeline_and_root(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Thin images are dropped by the repair, foreign ones kept and listed."""
    config = _write_config(tmp_path / 'set')
    (tmp_path / '1.png').write_bytes((tmp_path / 'set/1.png').read_bytes())
    pipeline = "pipeline=[dict(type='Resize', scale=(4, 4), keep_ratio=True)]"
    text = config.read_text().replace("ann_file='train.json'", f"ann_file='train.json', {pipeline}")
    config.write_text(text)
    content = json.loads((tmp_path / 'set/train.json').read_text())
    content['images'][0]['file_name'] = '../1.png'
    content['images'][1]['height'] = 8
    write_image(tmp_path / 'set/2.png', (64, 8))
    for annotation in content['annotations'][2:4]:
        annotation.update(bbox=[1, 1, 5, 5], area=25)
    (tmp_path / 'set/train.json').write_text(json.dumps(content))
    assert _run(config, '--split', 'train', '--repair', tmp_path / 'copies') == 1
    first, copies = capsys.readouterr().out.split('The copies:')
    assert 'thin_image (1)' in first and '2.png (id 2): 64x8' in first
    assert 'image_outside (1)' in first and '../1.png (id 1)' in first
    assert '1 images lie outside the data root, such as ../1.png' in first
    assert 'image_outside (1)' in copies and 'thin_image' not in copies
    kept = json.loads((tmp_path / 'copies/train.json').read_text())['images']
    assert [image['id'] for image in kept] == [1, 3, 4]
