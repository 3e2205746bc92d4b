"""Inference as MMDetection's users know it: file, folder, array, batch, by path and by name."""

from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from helpers import COCO_CONFIG, build, tiny_model_cfg
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config

from mmdet_salience.apis import DetInferencer, ZooModel

SIZES = ((64, 96), (80, 64), (48, 120))


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> ZooModel:
    """Config and checkpoint of a tiny model with two classes, beside a folder of images."""
    root = tmp_path_factory.mktemp('inference')
    cfg = Config.fromfile(COCO_CONFIG)
    cfg.model = tiny_model_cfg(num_classes=None)
    cfg.test_dataloader.dataset.pipeline[1].scale = (128, 96)
    cfg.dump(root / 'tiny.py')
    weights = build(tiny_model_cfg(num_classes=2)).state_dict()
    meta = dict(dataset_meta=dict(classes=('pore', 'crack')))
    torch.save(dict(state_dict=weights, meta=meta), root / 'tiny.pth')
    (root / 'images').mkdir()
    source = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        picture = source.integers(0, 256, (*size, 3)).astype(np.uint8)
        cv2.imwrite(str(root / 'images' / f'{number}.png'), picture)
    return ZooModel('tiny', root / 'tiny.py', str(root / 'tiny.pth'))


@pytest.fixture(scope='module')
def inferencer(model: ZooModel) -> DetInferencer:
    """An inferencer of the tiny model, by path."""
    return DetInferencer(str(model.config), model.weights, device='cpu')


def images(model: ZooModel) -> list[Path]:
    """The images, in order."""
    return sorted((model.config.parent / 'images').glob('*.png'))


def test_file_folder_array_and_batch_agree(model: ZooModel, inferencer: DetInferencer) -> None:
    paths = images(model)
    options = dict(no_save_vis=True, return_datasamples=True)
    folder = inferencer(str(paths[0].parent), **options)['predictions']
    singly = [inferencer(str(path), **options)['predictions'][0] for path in paths]
    ways = {
        'folder': sorted(folder, key=lambda sample: sample.img_path),
        'arrays': inferencer([cv2.imread(str(path)) for path in paths], **options)['predictions'],
        'batch': inferencer(list(map(str, paths)), batch_size=3, **options)['predictions'],
    }
    for way, samples in ways.items():
        assert len(samples) == len(paths), way
        for one, other in zip(singly, samples, strict=True):
            assert one.ori_shape == other.ori_shape, way
            scores = [sample.pred_instances.scores.numpy() for sample in (one, other)]
            np.testing.assert_allclose(*scores, atol=1e-5, err_msg=way)


def test_same_as_init_detector(model: ZooModel, inferencer: DetInferencer) -> None:
    path = str(images(model)[0])
    detector = init_detector(str(model.config), model.weights, device='cpu')
    assert detector.dataset_meta['classes'] == ('pore', 'crack')
    expected = inference_detector(detector, path).pred_instances
    found = inferencer(path, no_save_vis=True)['predictions'][0]
    np.testing.assert_allclose(found['scores'], expected.scores.numpy(), atol=1e-6)
    together = inference_detector(detector, [str(path) for path in images(model)])
    assert len(together) == len(SIZES)


def test_folder_shows_progress_and_saves(
    model: ZooModel, inferencer: DetInferencer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    inferencer(str(model.config.parent / 'images'), out_dir=str(tmp_path), no_save_pred=False)
    assert 'Inference' in capsys.readouterr().out
    assert {path.name for path in (tmp_path / 'vis').iterdir()} == {'0.png', '1.png', '2.png'}
    assert len(list((tmp_path / 'preds').glob('*.json'))) == 3


def test_by_name(model: ZooModel) -> None:
    where = 'mmdet_salience.apis.inferencer.find_model'
    with mock.patch(where, return_value=model) as find:
        named = DetInferencer('salience-detr_r50_8xb2-12e_coco', device='cpu')
    find.assert_called_once_with('salience-detr_r50_8xb2-12e_coco')
    assert named.model.bbox_head.num_classes == 2


def test_wrong_names_are_clear() -> None:
    with pytest.raises(ValueError, match='no published model salience-detr_r18'):
        DetInferencer('salience-detr_r18', device='cpu')
    with pytest.raises(FileNotFoundError, match=r'no config file configs/none\.py'):
        DetInferencer('configs/none.py', device='cpu')


def test_no_two_images_share_an_output(
    model: ZooModel, inferencer: DetInferencer, tmp_path: Path
) -> None:
    """Neither pictures of two folders, nor results of two formats; without outputs all is well."""
    first, second, third = (str(path) for path in images(model))
    paths = [str(tmp_path / name) for name in ('a/x.png', 'b/x.png', 'b/x.bmp')]
    for source, path in zip((first, second, third), paths, strict=True):
        Path(path).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(path, cv2.imread(source))
    out = tmp_path / 'out'
    with pytest.raises(ValueError, match=r'a/x\.png and .*b/x\.png would both .*out/vis/x\.png'):
        inferencer(paths, out_dir=str(out))
    with pytest.raises(ValueError, match=r'b/x\.png and .*b/x\.bmp would both .*out/preds/x\.json'):
        inferencer(paths[1:], no_save_pred=False, out_dir=str(out))
    array = cv2.imread(first)
    number = f'{inferencer.num_visualized_imgs + 1:08}.jpg'
    with pytest.raises(ValueError, match='array of shape'):
        inferencer([str(tmp_path / number), array], out_dir=str(out))
    assert not out.exists()
    assert len(inferencer(paths, no_save_vis=True)['predictions']) == 3
    inferencer(paths[1:], out_dir=str(out))
    inferencer([paths[0], paths[0]], out_dir=str(out), no_save_pred=False)
    assert {path.name for path in (out / 'vis').iterdir()} == {'x.png', 'x.bmp'}


def test_folders_without_images_are_named(
    model: ZooModel, inferencer: DetInferencer, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f'{tmp_path} holds no image'):
        inferencer(str(tmp_path))
    for name in ('a/1.png', 'b/2.PNG'):
        (tmp_path / 'in' / name).parent.mkdir(parents=True)
        (tmp_path / 'in' / name).write_bytes(images(model)[0].read_bytes())
    with pytest.raises(
        ValueError, match=r'itself holds no image, but its subfolders do: .*in/a, .*in/b;'
    ):
        inferencer(str(tmp_path / 'in'))
    found = inferencer(tmp_path / 'in' / 'b', return_datasamples=True)['predictions']
    assert [Path(sample.img_path).name for sample in found] == ['2.PNG']


def test_a_broken_link_in_a_folder_costs_only_itself(
    model: ZooModel, inferencer: DetInferencer, tmp_path: Path
) -> None:
    (tmp_path / '1.png').write_bytes(images(model)[0].read_bytes())
    (tmp_path / '2.png').symlink_to(tmp_path / '2.png')
    with pytest.raises(ValueError, match=r'2\.png: cannot be read'):
        inferencer(str(tmp_path))
    with (
        mock.patch.object(inferencer, 'skip_unreadable', True),
        pytest.warns(UserWarning, match=r'left out: .*2\.png'),
    ):
        assert len(inferencer(str(tmp_path))['predictions']) == 1
