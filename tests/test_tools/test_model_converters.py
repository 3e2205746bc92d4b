"""Converted and published checkpoints, from the file to the detections."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import (
    BACKBONES,
    ROOT,
    build,
    golden_keys,
    golden_model_cfg,
    inference_config,
    release_state_dict,
    tiny_model_cfg,
)
from mmdet.apis import inference_detector, init_detector
from mmdet.datasets import CocoDataset
from mmengine.logging.history_buffer import HistoryBuffer
from torch import Tensor, nn

import mmdet_salience
from mmdet_salience.apis import DetInferencer
from mmdet_salience.apis.model_zoo import list_models
from mmdet_salience.utils.publishing import file_sha256

RELEASE_URL = 'https://github.com/xiuqhou/Salience-DETR/releases/download/v1.0.0/'
R50_NAME = 'salience_detr_resnet50_800_1333_coco_1x.pth'


def load_tool(name: str) -> ModuleType:
    """A tool as a module."""
    path = ROOT / 'tools' / 'model_converters' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release_to_mmdet = load_tool('release_to_mmdet')
publish_model = load_tool('publish_model')


def failure(main: Callable[[list[str]], None], *argv: object) -> str:
    """Message of a tool that must fail."""
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in argv])
    assert isinstance(caught.value.code, str), 'a message, which Python turns into status 1'
    return caught.value.code


def load(path: Path) -> dict:
    """A checkpoint, by the safe way."""
    return torch.load(path, weights_only=True)


def release_weights(num_classes: int = 91) -> dict[str, Tensor]:
    """The release's weights of the goldens' model."""
    return release_state_dict(golden_keys(num_classes))


def write_config(path: Path, changes: dict) -> Path:
    """Config of the goldens' model with changes, which follows its checkpoint's classes."""
    cfg = inference_config(golden_model_cfg())
    cfg.merge_from_dict({'model.bbox_head.num_classes': None, **changes})
    cfg.dump(path)
    return path


@pytest.fixture(scope='module')
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release checkpoint of the goldens' model, as training saves it."""
    path = tmp_path_factory.mktemp('release') / 'small.pth'
    torch.save({'model': release_weights(), 'optimizer': {'state': {}}, 'epoch': 12}, path)
    return path


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config of the goldens' model, which follows its checkpoint's classes."""
    return write_config(tmp_path_factory.mktemp('config') / 'small_coco.py', {})


@pytest.fixture(scope='module')
def converted(release: Path, config: Path) -> Path:
    """The converted checkpoint."""
    release_to_mmdet.main([str(release), '--config', str(config)])
    (path,) = release.parent.glob('small_coco-*.pth')
    return path


def detect(detector: nn.Module) -> tuple[np.ndarray, ...]:
    """Boxes, scores and labels of an image."""
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    found = inference_detector(detector, image).pred_instances
    return tuple(x.numpy() for x in (found.bboxes, found.scores, found.labels))


def test_converted_checkpoints_detect_the_same(
    release: Path, config: Path, converted: Path
) -> None:
    expected = detect(init_detector(config, str(release), palette='coco', device='cpu'))
    detector = init_detector(config, str(converted), device='cpu')
    assert detector.dataset_meta['classes'] == CocoDataset.METAINFO['classes']
    for ours, theirs in zip(detect(detector), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(expected[0]) == 300


def test_content_and_name(release: Path, config: Path, converted: Path) -> None:
    assert converted.name == f'small_coco-{file_sha256(converted)[:8]}.pth'
    checkpoint = load(converted)
    assert set(checkpoint) == {'meta', 'state_dict'}
    rows = checkpoint['state_dict']['bbox_head.cls_branches.0.weight']
    assert rows.shape == (80, 256)
    meta = checkpoint['meta']
    assert meta['source'] == {'file': 'small.pth', 'sha256': file_sha256(release)}
    assert meta['config'] == config.name
    assert meta['mmdet_salience_version'] == mmdet_salience.__version__
    assert meta['dataset_meta']['classes'] == CocoDataset.METAINFO['classes']
    assert len(meta['dataset_meta']['palette']) == 80
    inferencer = DetInferencer(weights=str(converted), device='cpu')  # by the config inside
    assert inferencer.model.dataset_meta['classes'][0] == 'person'


def test_nothing_is_overwritten(release: Path, config: Path, converted: Path) -> None:
    before = sorted(release.parent.iterdir())
    message = failure(release_to_mmdet.main, release, '--config', config)
    assert f'{converted} exists and is not overwritten' in message
    assert sorted(release.parent.iterdir()) == before
    message = failure(release_to_mmdet.main, release, 'none/x.pth', '--config', config)
    assert 'there is no folder none' in message


def test_release_names_tell_the_config(tmp_path: Path, release: Path) -> None:
    found = set()
    for kind in (
        'resnet50 1x',
        'resnet50 2x',
        'swin_l 1x',
        'convnext_l 1x',
        'focalnet_large_lrf 1x',
    ):
        name = f'salience_detr_{kind.replace(" ", "_800_1333_coco_")}.pth'
        model = release_to_mmdet.find_release(name)
        assert model.weights == RELEASE_URL + name
        assert model.config.is_file()
        found.add(model.name)
    assert found == set(list_models())
    assert release_to_mmdet.find_release('pth') is None
    named = release.rename(tmp_path / R50_NAME)
    message = failure(release_to_mmdet.main, named)
    named.rename(release)
    assert 'salience-detr_r50_8xb2-12e_coco.py; of its weights' in message


def test_name_and_address_of_a_release_file_stay_in_the_file(
    tmp_path: Path, release: Path, config: Path
) -> None:
    (tmp_path / R50_NAME).write_bytes(release.read_bytes())
    release_to_mmdet.main(
        [str(tmp_path / R50_NAME), str(tmp_path / 'own'), '--config', str(config)]
    )
    (path,) = tmp_path.glob('own-*.pth')
    source = load(path)['meta']['source']
    assert source['file'] == R50_NAME
    assert source['url'] == RELEASE_URL + R50_NAME


def test_unknown_names_need_a_config(release: Path) -> None:
    message = failure(release_to_mmdet.main, release)
    assert 'small.pth does not tell the model; give its config by --config' in message
    assert R50_NAME in message
    message = failure(release_to_mmdet.main, release, '--config', 'none.py')
    assert 'no config file none.py' in message


def test_foreign_files_are_named(tmp_path: Path, config: Path, converted: Path) -> None:
    message = failure(release_to_mmdet.main, tmp_path / 'none.pth', '--config', config)
    assert 'no checkpoint' in message
    foreign = tmp_path / 'foreign.pth'
    torch.save({'conv1.weight': torch.ones(1), 'layer1.0.weight': torch.ones(1)}, foreign)
    message = failure(release_to_mmdet.main, foreign, '--config', config)
    assert 'foreign.pth is no checkpoint of the Salience DETR release' in message
    assert 'bare ResNet' in message
    message = failure(release_to_mmdet.main, converted, '--config', config)
    assert "MMDetection's names already" in message


def test_configs_of_other_models_are_refused(tmp_path: Path, release: Path) -> None:
    wrong = write_config(tmp_path / 'wrong.py', {'model.num_queries': 50})
    message = failure(release_to_mmdet.main, release, tmp_path, '--config', wrong)
    assert 'does not fit' in message and 'by --config' in message
    assert '1 have another shape (query_embedding.weight)' in message
    deeper = write_config(tmp_path / 'deeper.py', {'model.backbone.depth': 34})
    message = failure(release_to_mmdet.main, release, tmp_path, '--config', deeper)
    assert 'are missing (backbone.layer1.2.conv1.weight, ' in message
    cfg = golden_model_cfg()
    cfg.backbone = BACKBONES['swin']
    inference_config(cfg).dump(tmp_path / 'swin.py')
    message = failure(release_to_mmdet.main, release, '--config', tmp_path / 'swin.py')
    assert 'none of the weights of TorchvisionSwinTransformer' in message
    assert not list(tmp_path.glob('*.pth'))


def test_no_check_writes_what_fits(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = {f'module.{name}': value for name, value in release_weights().items()}
    weights['extra.weight'] = weights.pop('module.transformer.tgt_embed.weight')
    torch.save(weights, tmp_path / 'changed.pth')
    argv = [str(tmp_path / 'changed.pth'), '--config', str(config)]
    message = failure(release_to_mmdet.main, *argv)
    assert '1 are missing (query_embedding.weight) and 1 are left over (extra.weight)' in message
    release_to_mmdet.main([*argv, '--no-check'])
    assert '1 are left over (extra.weight)' in capsys.readouterr().out
    (path,) = tmp_path.glob('small_coco-*.pth')
    assert not {'query_embedding.weight', 'extra.weight'} & set(load(path)['state_dict'])


def test_other_classes_need_names(tmp_path: Path, config: Path) -> None:
    torch.save(release_weights(7), tmp_path / 'own.pth')
    message = failure(release_to_mmdet.main, tmp_path / 'own.pth', '--config', config)
    assert 'have 7 classes' in message and 'metainfo=dict(classes=' in message
    classes = {'test_dataloader.dataset.metainfo': dict(classes=tuple('abcdefg'))}
    named = write_config(tmp_path / 'named.py', classes)
    release_to_mmdet.main([str(tmp_path / 'own.pth'), '--config', str(named)])
    (path,) = tmp_path.glob('named-*.pth')
    assert load(path)['meta']['dataset_meta'] == {'classes': tuple('abcdefg')}


def train_checkpoint(path: Path, **further: object) -> dict:
    """Write what a training run saves."""
    weights = build(tiny_model_cfg()).state_dict()
    history = HistoryBuffer([1.0], [1])
    meta = dict(dataset_meta=dict(classes=('pit', 'pore', 'scratch')), cfg='', epoch=1, seed=0)
    content = dict(
        meta=dict(meta, time='now', experiment_name='tiny_now', mmengine_version='0.10'),
        state_dict=weights,
        message_hub=dict(log_scalars={'loss': history}),
        optimizer=dict(state={0: {name: x.clone() for name, x in weights.items()}}),
        param_schedulers=[dict(last_step=1)],
        **further,
    )
    torch.save(content, path)
    return weights


def test_published_checkpoints_hold_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = tmp_path / 'epoch_1.pth'
    weights = train_checkpoint(source)
    publish_model.main([str(source), str(tmp_path / 'tiny.pth')])
    printed = capsys.readouterr().out
    (path,) = tmp_path.glob('tiny-*.pth')
    assert path.name == f'tiny-{file_sha256(path)[:8]}.pth'
    for file in (source, path):
        assert f'{file}: {file.stat().st_size / 1e6:.1f} MB' in printed
    assert 'removed: message_hub, optimizer, param_schedulers' in printed
    assert path.stat().st_size < 0.6 * source.stat().st_size
    checkpoint = load(path)
    assert set(checkpoint) == {'meta', 'state_dict'}
    kept = {'dataset_meta', 'cfg', 'epoch', 'seed', 'mmengine_version', 'mmdet_salience_version'}
    assert set(checkpoint['meta']) == kept
    for name, value in weights.items():
        assert torch.equal(checkpoint['state_dict'][name], value)
    init_detector(inference_config(tiny_model_cfg()), str(path), palette='random', device='cpu')
    message = failure(publish_model.main, source, tmp_path / 'tiny')
    assert 'exists and is not overwritten' in message
    assert f'{path} exists' in failure(publish_model.main, path), 'the same name for the same'


def test_choice_of_the_moving_average(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = tmp_path / 'epoch_1.pth'
    last = {'module.level_embed': torch.full((4, 32), 7.0), 'steps': torch.tensor(1)}
    weights = train_checkpoint(source, ema_state_dict=last)
    average, step = weights['level_embed'], last['module.level_embed']
    for option, value in ((None, average), ('--ema', average), ('--no-ema', step)):
        argv = [str(source), str(tmp_path / f'out{option}')]
        publish_model.main([*argv, option] if option else argv)
        (path,) = tmp_path.glob(f'out{option}-????????.pth')
        assert torch.equal(load(path)['state_dict']['level_embed'], value)
        said = 'those of the last step' if option == '--no-ema' else 'moving average'
        assert f'weights: {said}' in capsys.readouterr().out
    train_checkpoint(source)
    assert 'holds no moving average' in failure(publish_model.main, source, '--ema')
    assert 'holds no moving average' in failure(publish_model.main, source, '--no-ema')


def test_unsuitable_files_are_not_published(tmp_path: Path, release: Path) -> None:
    assert 'release_to_mmdet.py is for' in failure(publish_model.main, release)
    assert 'there is no checkpoint' in failure(publish_model.main, tmp_path / 'none.pth')
    (tmp_path / 'text.pth').write_text('text')
    assert 'cannot be read' in failure(publish_model.main, tmp_path / 'text.pth')
