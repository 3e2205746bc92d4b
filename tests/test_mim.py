"""``mim`` as a user calls it, from an empty folder, with the wheel and with the checkout."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import COCO_CONFIG, ROOT, build
from mmdet.apis import inference_detector, init_detector
from mmdet.datasets import CocoDataset
from mmengine.config import Config

PACKAGE = 'mmdetection-salience'
CONFIG = 'salience-detr_r18_demo.py'
R50 = 'salience-detr_r50_8xb2-12e_coco'
RELEASE = 'https://github.com/xiuqhou/Salience-DETR/releases/download/v1.0.0'
SHORT = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
SHORT += ['default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1']
SHORT += [
    f'{s}_dataloader.{key}'
    for s in ('train', 'val', 'test')
    for key in ('num_workers=0', 'persistent_workers=False')
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the wheel installed, which comes before the checkout."""
    folder = tmp_path_factory.mktemp('site')
    options = ['--no-deps', '--no-build-isolation', '-q', '--target', str(folder), str(ROOT)]
    subprocess.run([sys.executable, '-m', 'pip', 'install', *options], check=True)
    return folder


@pytest.fixture(scope='module')
def empty(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    """A folder outside the checkout in which ``mim run`` has written the embedded data."""
    folder = tmp_path_factory.mktemp('empty')
    sizes = ('--num-train', '8', '--num-val', '4', '--image-size', '64')
    text = mim(folder, site, 'run', PACKAGE, 'synthetic_defects', 'data/synthetic_defects', *sizes)
    assert 'train: 8 images' in text
    return folder


def mim(folder: Path, site: Path | None, *argv: str) -> str:
    """What mim prints; ``site`` None is the installation of the checkout."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', COLUMNS='200')
    environment.pop('PYTHONPATH', None)
    if site is not None:
        environment['PYTHONPATH'] = str(site)
    command = [sys.executable, '-c', 'from mim.cli import cli; cli()', *argv]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    return text


@pytest.fixture(scope='module')
def trained(empty: Path, site: Path) -> str:
    """Log of a training of two steps with the wheel, into ``work``."""
    options = ('--gpus', '0', '--work-dir', 'work', '--cfg-options', *SHORT)
    return mim(empty, site, 'train', PACKAGE, CONFIG, *options)


def test_train_finds_the_config_of_the_wheel(trained: str, empty: Path, site: Path) -> None:
    assert f'{site}/mmdet_salience/.mim/configs/salience_detr/{CONFIG}' in trained
    assert 'classes, 3: scratch, pit, stain' in trained
    assert 'coco/bbox_mAP' in trained
    assert (empty / 'work' / 'iter_2.pth').is_file()


def test_test_evaluates_the_result(trained: str, empty: Path, site: Path) -> None:
    options = ('--checkpoint', 'work/iter_2.pth', '--gpus', '0', '--work-dir', 'tested')
    text = mim(empty, site, 'test', PACKAGE, CONFIG, *options, '--cfg-options', *SHORT)
    scores = [re.findall(r'coco/bbox_mAP: (\S+)', log)[-1] for log in (trained, text)]
    assert scores[0] == scores[1]


def test_a_data_root_with_spaces_and_commas(empty: Path, site: Path) -> None:
    root = 'my data, new/set'
    (empty / 'my data, new').mkdir()
    (empty / root).symlink_to(empty / 'data' / 'synthetic_defects')
    options = ('--gpus', '0', '--work-dir', 'my runs, new', '--data-root', root)
    text = mim(empty, site, 'train', PACKAGE, CONFIG, *options, '--cfg-options', *SHORT)
    assert f'{root}/annotations/train.json' in text
    trained = empty / 'my runs, new' / 'iter_2.pth'
    tested = ('--checkpoint', str(trained), '--gpus', '0', '--work-dir', 'x', '--data-root', root)
    text = mim(empty, site, 'test', PACKAGE, CONFIG, *tested, '--cfg-options', *SHORT)
    assert f'{root}/annotations/val.json' in text
    with pytest.raises(AssertionError, match=r'--data-root "my data, new/set", which takes it'):
        mim(empty, site, 'train', PACKAGE, CONFIG, '--cfg-options', f'data_root={root}')


def test_two_processes(empty: Path, site: Path) -> None:
    options = ('--launcher', 'pytorch', '--gpus', '2', '--work-dir', 'two')
    text = mim(empty, site, 'train', PACKAGE, CONFIG, *options, '--cfg-options', *SHORT)
    assert 'Training finished successfully' in text
    assert (empty / 'two' / 'iter_2.pth').is_file()


def test_checkout_is_found_too(empty: Path) -> None:
    name = 'salience-detr_r50-c2-c5_8xb2-12e_coco.py'
    sizes = ('--num-train', '1', '--num-val', '1', '--image-size', '32')
    text = mim(empty, None, 'run', PACKAGE, 'synthetic_defects', 'other', *sizes)
    assert f'{ROOT}/tools/dataset_converters/synthetic_defects.py' in text
    with pytest.raises(AssertionError, match=r'there is no annotation file data/coco'):
        mim(empty, None, 'train', PACKAGE, name, '--gpus', '0')  # found, and stops at the data


@pytest.mark.parametrize('installed', [True, False], ids=['wheel', 'checkout'])
def test_search_lists_models_with_metrics(empty: Path, site: Path, installed: bool) -> None:
    mim(empty, site if installed else None, 'search', PACKAGE, '--json', 'found.json')
    found = json.loads((empty / 'found.json').read_text())
    assert len(found['weight']) == 5
    assert found['weight'][R50] == f'{RELEASE}/salience_detr_resnet50_800_1333_coco_1x.pth'
    figures = {column: values[R50] for column, values in found.items() if '/' in column}
    assert sorted(figures.values()) == [33.3, 50.0, 54.2, 54.4, 64.4, 67.7]
    text = mim(empty, site if installed else None, 'search', PACKAGE, '--model', 'salience detr')
    assert 'focalnet-l' in text


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server on this machine that stands in for the release's, and its folder."""
    folder = tmp_path / 'host'
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}', folder
    server.shutdown()
    thread.join()


def write_coco(root: Path) -> None:
    """Write two images in COCO's layout, with COCO's categories."""
    categories = [dict(id=i, name=n) for i, n in enumerate(CocoDataset.METAINFO['classes'], 1)]
    images, annotations = [], []
    (root / 'annotations').mkdir(parents=True)
    (root / 'val2017').mkdir()
    for i in (1, 2):
        picture = np.full((64, 96, 3), 60 * i, np.uint8)
        cv2.imwrite(str(root / 'val2017' / f'{i}.jpg'), picture)
        images.append(dict(id=i, file_name=f'{i}.jpg', width=96, height=64))
        box = dict(bbox=[8, 8, 40, 30], area=1200, iscrowd=0)
        annotations.append(dict(id=i, image_id=i, category_id=i, **box))
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'annotations' / 'instances_val2017.json').write_text(json.dumps(content))


def test_downloaded_pair_runs(site: Path, tmp_path: Path, host: tuple[str, Path]) -> None:
    address, folder = host
    cfg = Config.fromfile(COCO_CONFIG).model
    cfg.backbone.init_cfg = None
    name = 'salience_detr_resnet50_800_1333_coco_1x.pth'
    torch.save(dict(model=build(cfg).state_dict()), folder / name)
    metafile = site / 'mmdet_salience/.mim/configs/salience_detr/metafile.yml'
    published = metafile.read_text()
    assert published.count(RELEASE) >= 5
    metafile.write_text(published.replace(RELEASE, address))
    try:
        mim(tmp_path, site, 'download', PACKAGE, '--config', R50, '--dest', 'zoo')
    finally:
        metafile.write_text(published)
    pair = tmp_path / 'zoo' / f'{R50}.py', tmp_path / 'zoo' / name
    assert pair[1].read_bytes() == (folder / name).read_bytes()

    write_coco(tmp_path / 'data' / 'coco')
    small = 'test_dataloader.dataset.pipeline.1.scale=(96,64)'
    options = ('--checkpoint', str(pair[1]), '--gpus', '0', '--cfg-options', small)
    text = mim(tmp_path, site, 'test', PACKAGE, str(pair[0]), *options)
    assert 'coco/bbox_mAP' in text and 'missing keys' not in text

    changes = {'test_dataloader.dataset.pipeline.1.scale': (96, 64)}
    model = init_detector(*map(str, pair), device='cpu', cfg_options=changes)
    found = inference_detector(model, str(tmp_path / 'data/coco/val2017/1.jpg')).pred_instances
    assert len(found) == 300
