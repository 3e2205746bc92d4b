"""Foreign data sets from download to detections, by command lines alone."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
import torch
from helpers import ROOT
from mmdet.apis import inference_detector, init_detector

TOOLS = ROOT / 'tools'
CONFIG = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_4xb2-10000i_custom.py'
# A small model, small images and two steps; the data needs no option but its folder.
SMALL = [
    'model.backbone.depth=18',
    'model.backbone.init_cfg=None',
    'model.neck.in_channels=[128,256,512]',
    'model.num_queries=20',
    'model.encoder.layer_cfg.ffn_cfg.feedforward_channels=32',
    'model.decoder.layer_cfg.ffn_cfg.feedforward_channels=32',
    'train_dataloader.dataset.pipeline.3.transforms.0.0.scales=[(64,64)]',
    'train_dataloader.dataset.pipeline.3.transforms.1.0.scales=[(64,64)]',
    'train_dataloader.dataset.pipeline.3.transforms.1.1.crop_size=(32,48)',
    'train_dataloader.dataset.pipeline.3.transforms.1.2.scales=[(64,64)]',
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1',
    'param_scheduler.0.start_factor=1.0',
]
for _split in ('train', 'val', 'test'):
    SMALL += [f'{_split}_dataloader.{key}' for key in ('num_workers=0', 'persistent_workers=False')]
for _split in ('val', 'test'):
    SMALL.append(f'{_split}_dataloader.dataset.pipeline.1.scale=(64,64)')


def write_voc(
    root: Path,
    splits: Mapping[str, int],
    classes: Sequence[str],
    side: tuple[int, int],
    folders: tuple[str, str],
    gray: bool,
) -> None:
    """Write a VOC set: images with one filled rectangle each, lists, and XML files."""
    images, annotations = (root / name for name in folders)
    lists = root / 'ImageSets' / 'Main'
    for folder in (images, annotations, lists):
        folder.mkdir(parents=True, exist_ok=True)
    source, (width, height) = np.random.default_rng(0), side
    for split, count in splits.items():
        names = [f'{classes[i % len(classes)]}_{split}_{i}' for i in range(count)]
        (lists / f'{split}.txt').write_text('\n'.join(names) + '\n')
        for name in names:
            x, y = source.integers(1, 60, 2)
            picture = source.integers(90, 120, (height, width)).astype(np.uint8)
            picture[y - 1 : y + 39, x - 1 : x + 49] = 200
            if not gray:
                picture = np.stack([picture] * 3, -1)
            cv2.imwrite(str(images / f'{name}.jpg'), picture)
            corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), (x, y, x + 49, y + 39), strict=True)
            box = ''.join(f'<{tag}>{value}</{tag}>' for tag, value in corners)
            (annotations / f'{name}.xml').write_text(
                f'<annotation><filename>{name}.jpg</filename>'
                f'<size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
                f'<object><name>{name.split("_")[0]}</name><difficult>0</difficult>'
                f'<bndbox>{box}</bndbox></object></annotation>'
            )


def run(folder: Path, script: Path, *argv: str, fails: bool = False) -> str:
    """What a script prints when it is run from a folder."""
    command = [sys.executable, str(script), *argv]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode != 0) is fails, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def train(folder: Path, script: Path, *options: str, flags: Sequence[str] = ()) -> str:
    """Train two steps from a folder; returns the log."""
    argv = (str(CONFIG), '--work-dir', 'work', *flags, '--cfg-options', *SMALL, *options)
    return run(folder, script, *argv)


@pytest.fixture(scope='module')
def neu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set like NEU-DET, converted: gray squares of 200 px, folders in capitals."""
    folder = tmp_path_factory.mktemp('neu')
    classes = ('crazing', 'inclusion', 'patches', 'pitted', 'rolled', 'scratches')
    layout = dict(side=(200, 200), folders=('IMAGES', 'ANNOTATIONS'), gray=True)
    write_voc(folder / 'NEU-DET', {'train': 6, 'val': 6}, classes, **layout)
    dirs = ('--image-dir', 'IMAGES', '--ann-dir', 'ANNOTATIONS', '--splits', 'train', 'val')
    run(folder, TOOLS / 'dataset_converters' / 'voc2coco.py', 'NEU-DET', *dirs)
    return folder


@pytest.mark.slow
def test_steel_set_from_xml_to_detections(neu: Path) -> None:
    checker = TOOLS / 'analysis_tools' / 'check_dataset.py'
    table = run(neu, checker, 'NEU-DET/annotations/train.json', '--image-dir', 'NEU-DET')
    assert re.search(r'crazing\s+1\s', table)

    log = train(neu, TOOLS / 'train.py', 'data_root=NEU-DET', flags=['--auto-scale-lr'])
    assert 'classes, 6: crazing, inclusion, patches, pitted, rolled, scratches' in log
    rates = [float(rate) for rate in re.findall(r'Iter\(train\).* lr: (\S+)', log)]
    assert rates[-1] == pytest.approx(7e-5 * 2 / 8, rel=1e-3)  # one process of the config's four
    assert 'coco/bbox_mAP' in log

    options = ('--work-dir', 'test', '--cfg-options', 'data_root=NEU-DET', *SMALL)
    tested = run(neu, TOOLS / 'test.py', str(CONFIG), 'work/iter_2.pth', *options)
    assert 'coco/bbox_mAP' in tested and 'size mismatch' not in tested

    checkpoint = neu / 'work' / 'iter_2.pth'
    model = init_detector(str(neu / 'work' / CONFIG.name), str(checkpoint), device='cpu')
    assert model.dataset_meta['classes'][2] == 'patches'
    rows = torch.load(checkpoint, weights_only=False)['state_dict']
    assert len(rows['bbox_head.cls_branches.0.weight']) == model.bbox_head.num_classes == 6
    assert len(rows['dn_query_generator.label_embedding.weight']) == 6
    image = next((neu / 'NEU-DET' / 'IMAGES').glob('*val*.jpg'))
    found = inference_detector(model, str(image)).pred_instances
    assert len(found) > 0 and found.labels.max() < 6


@pytest.mark.slow
def test_blood_cells_with_the_tool_of_mmdetection(tmp_path: Path) -> None:
    layout = dict(side=(320, 240), folders=('JPEGImages', 'Annotations'), gray=False)
    splits = {'train': 4, 'val': 3, 'test': 3}
    write_voc(tmp_path / 'BCCD', splits, ('RBC', 'WBC', 'Platelets'), **layout)
    run(tmp_path, TOOLS / 'dataset_converters' / 'voc2coco.py', 'BCCD')
    assert {path.name for path in (tmp_path / 'BCCD' / 'annotations').glob('*.json')} == {
        'train.json',
        'val.json',
        'test.json',
    }
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
    log = train(tmp_path, script, 'data_root=BCCD/')
    assert 'classes, 3: Platelets, RBC, WBC' in log
    rows = torch.load(tmp_path / 'work' / 'iter_2.pth', weights_only=False)['state_dict']
    assert len(rows['bbox_head.cls_branches.0.weight']) == 3


@pytest.mark.slow
def test_two_processes_on_a_cpu(neu: Path) -> None:
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += [str(TOOLS / 'train.py'), str(CONFIG), '--launcher', 'pytorch', '--auto-scale-lr']
    command += ['--work-dir', 'two', '--cfg-options', 'data_root=NEU-DET', *SMALL]
    done = subprocess.run(command, cwd=neu, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    log = done.stdout + done.stderr
    assert log.count('INFO - classes, 6: crazing') == 1  # the first process speaks for both
    rates = [float(rate) for rate in re.findall(r'Iter\(train\).* lr: (\S+)', log)]
    assert rates[-1] == pytest.approx(7e-5 * 4 / 8, rel=1e-3)
    assert 'coco/bbox_mAP' in log


@pytest.mark.parametrize('tool, argument', [('train.py', ()), ('test.py', ('some.pth',))])
def test_contradictory_classes_end_in_one_message(
    neu: Path, tool: str, argument: Sequence[str]
) -> None:
    (neu / 'some.pth').touch()
    split = Path(tool).stem
    stated = f'{split}_dataloader.dataset.metainfo.classes=[crazing,dent]'
    options = ('--cfg-options', 'data_root=NEU-DET', stated)
    text = run(neu, TOOLS / tool, str(CONFIG), *argument, *options, fails=True)
    assert 'Traceback' not in text
    file = 'train.json' if split == 'train' else 'val.json'
    assert f'{split}_dataloader.dataset contradict NEU-DET/annotations/{file}' in text
    assert 'the config: crazing, dent' in text
    assert 'the file: crazing, inclusion, patches' in text


def test_broken_data_ends_before_training(neu: Path, tmp_path: Path) -> None:
    shutil.copytree(neu / 'NEU-DET', tmp_path / 'NEU-DET')
    images = sorted((tmp_path / 'NEU-DET' / 'IMAGES').glob('*train*.jpg'))
    images[0].unlink()
    images[1].write_bytes(b'')
    options = ('--work-dir', 'work', '--cfg-options', 'data_root=NEU-DET', *SMALL)
    text = run(tmp_path, TOOLS / 'train.py', str(CONFIG), *options, fails=True)
    assert 'Traceback' not in text
    assert images[0].name in text and images[1].name in text
    assert 'data_check.allow=[missing_image,unreadable_image]' in text
    assert not list((tmp_path / 'work').glob('*.pth'))
