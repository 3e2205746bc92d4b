"""Pictures during training: what they show, where they land, and that training does not notice."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from coco_samples import make_coco, write_coco
from helpers import ROOT, tiny_model_cfg
from mmdet.registry import HOOKS, TRANSFORMS
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import MODEL_WRAPPERS, VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend

sys.path.insert(0, str(ROOT / 'tests' / 'test_analysis'))  # for tiny_detectors

from tiny_detectors import tiny_dino_cfg, whole_config

from mmdet_salience.datasets.image_choice import choose_images
from mmdet_salience.engine.hooks import SalienceVisualizationHook, salience_visualization_hook
from mmdet_salience.utils.undisturbed import undisturbed
from mmdet_salience.visualization.validation_picture import (
    GAP,
    MIN_CELL_WIDTH,
    TITLE_HEIGHT,
    validation_picture,
)

CLASSES = ('crack', 'pore')
RED, GREEN = (200, 0, 0), (0, 200, 0)
STEPS = 2  # iterations of an epoch


@VISBACKENDS.register_module()
class RecordingBackend(BaseVisBackend):
    """Keeps the images that it is given, as (name, step) -> image.

    Args:
        save_dir: Not used.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir)
        self.images: dict[tuple[str, int], np.ndarray] = {}

    @property
    def experiment(self) -> 'RecordingBackend':
        """The backend itself."""
        return self

    def _init_env(self) -> None:
        """Nothing to prepare."""

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Keep an image."""
        assert (name, step) not in self.images
        self.images[name, step] = image


@TRANSFORMS.register_module()
class DrawsRandomNumbers:
    """A transform that moves all random states on."""

    def __call__(self, results: dict) -> dict:
        """Return the results as they are."""
        random.random(), np.random.rand(), torch.rand(1)
        return results


@MODEL_WRAPPERS.register_module()
class ShardingWrapper(torch.nn.Module):
    """Stands for a wrapper that spreads the weights over processes."""

    module = None


def write_data(root: Path) -> Path:
    """Four images: the objects of number 1 are the largest, number 2 has none."""
    content = make_coco(4)
    content['images'][3]['file_name'] = 'with a space/4.png'
    largest = content['annotations'][2]
    largest.update(bbox=[2, 2, 50, 40], area=2000)
    content['annotations'] = [item for item in content['annotations'] if item['image_id'] != 3]
    write_coco(root, content, 'val.json')
    return root


def run_config(root: Path, model: ConfigDict, *hooks: dict, epochs: int = 1) -> Config:
    """Train on four images, validate on the same after each epoch."""
    cfg = whole_config(model, write_data(root))
    cfg.work_dir = str(root / 'work')
    cfg.experiment_name = str(root).replace('/', '_')  # visualizers live as long as the process
    shared = dict(cfg.val_dataloader.dataset, metainfo=dict(classes=CLASSES, palette=[RED, GREEN]))
    load, resize, boxes, pack = shared['pipeline']
    flip = dict(type='RandomFlip', prob=0.5)
    cfg.train_dataloader = dict(
        batch_size=4 // STEPS,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(
            shared,
            test_mode=False,
            filter_cfg=dict(filter_empty_gt=False),
            pipeline=[load, boxes, flip, dict(type='PackDetInputs')],
        ),
    )
    noise = dict(type='DrawsRandomNumbers')
    cfg.val_dataloader.dataset = dict(shared, pipeline=[load, resize, boxes, noise, pack])
    cfg.val_evaluator = dict(type='CocoMetric', ann_file=str(root / 'val.json'))
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
    cfg.val_cfg = dict(type='ValLoop')
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
    cfg.randomness = dict(seed=1)
    cfg.default_hooks = dict(checkpoint=None)
    cfg.custom_hooks = list(hooks)
    backends = [dict(type='LocalVisBackend'), dict(type='RecordingBackend')]
    cfg.visualizer = dict(type='DetLocalVisualizer', vis_backends=backends)
    cfg.log_level = 'WARNING'
    return cfg


def hook(**settings: Any) -> dict:
    """Config of the hook."""
    return dict(type='SalienceVisualizationHook', **settings)


def pictures(runner: Runner) -> dict[tuple[str, int], np.ndarray]:
    """What the recording backend was given."""
    return runner.visualizer.get_backend('RecordingBackend').images


def cells(picture: np.ndarray) -> list[np.ndarray]:
    """Cells of a picture of 512 px wide cells, without titles."""
    assert (picture.shape[1] + GAP) % (512 + GAP) == 0
    starts = range(0, picture.shape[1], 512 + GAP)
    return [picture[TITLE_HEIGHT:, start : start + 512] for start in starts]


@pytest.fixture(scope='module', autouse=True)
def quick_logs() -> Iterator[None]:
    """Spare the seconds that a runner takes to lay out its config as text."""
    with mock.patch.object(Config, 'pretty_text', ''):
        yield


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A runner after three epochs, drawing three images after the first and the third."""
    cfg = run_config(
        tmp_path_factory.mktemp('trained'),
        tiny_model_cfg(num_classes=2),
        hook(num_images=3, interval=2, score_thr=0.0),
        epochs=3,
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_the_config_names_the_hook() -> None:
    assert HOOKS.get('SalienceVisualizationHook') is SalienceVisualizationHook
    demo = Config.fromfile(ROOT / 'configs' / 'salience_detr' / 'salience-detr_r18_demo.py')
    assert isinstance(HOOKS.build(demo.custom_hooks[0]), SalienceVisualizationHook)
    coco = Config.fromfile(ROOT / 'configs/salience_detr/salience-detr_r50_8xb2-12e_coco.py')
    assert 'custom_hooks' not in coco


def test_same_images_at_the_interval(trained: Runner) -> None:
    """From no object to the largest; steps are iterations; names suit files and tags."""
    names = ('val_2_3', 'val_3_4', 'val_1_2')
    assert list(pictures(trained)) == [(n, STEPS * epoch) for epoch in (1, 3) for n in names]
    for name in names:
        first, later = (cells(pictures(trained)[name, STEPS * epoch]) for epoch in (1, 3))
        np.testing.assert_array_equal(first[0], later[0])
        assert (first[1] != later[1]).any() and (first[2] != later[2]).any()


def test_pictures_land_in_files(trained: Runner) -> None:
    folder = Path(trained.work_dir, trained.timestamp, 'vis_data', 'vis_image')
    files = {path.name: cv2.imread(str(path))[..., ::-1] for path in folder.iterdir()}
    assert set(files) == {f'{name}_{step}.png' for name, step in pictures(trained)}
    for (name, step), image in pictures(trained).items():
        np.testing.assert_array_equal(files[f'{name}_{step}.png'], image)


def test_image_without_objects(trained: Runner) -> None:
    """Its ground truth is the plain image, grey 120; the others have boxes."""
    step = STEPS * 3
    truth, found, _ = cells(pictures(trained)['val_2_3', step])
    assert (truth == 120).all() and (found != 120).any()
    assert (cells(pictures(trained)['val_1_2', step])[0] != 120).any()


def test_pictures_land_in_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg = run_config(tmp_path, tiny_model_cfg(num_classes=2), hook(num_images=2))
    cfg.visualizer.vis_backends = [dict(type='TensorboardVisBackend')]
    runner = Runner.from_cfg(cfg)
    runner.train()
    runner.visualizer.close()
    events = EventAccumulator(str(Path(runner.work_dir, runner.timestamp, 'vis_data')))
    events.Reload()
    assert set(events.Tags()['images']) == {'val_2_3', 'val_1_2'}
    (event,) = events.Images('val_1_2')
    assert (event.step, event.width) == (STEPS, 3 * 512 + 2 * GAP)


def test_training_does_not_notice(tmp_path: Path) -> None:
    """Weights, optimizer and random states are the same to the last bit, with EMA as well."""
    results = []
    for name, hooks in (('without', ()), ('with', (hook(num_images=2),))):
        root = tmp_path / name
        root.mkdir()
        model = tiny_model_cfg(num_classes=2)
        runner = Runner.from_cfg(
            run_config(root, model, dict(type='EMAHook', momentum=0.1), *hooks, epochs=2)
        )
        runner.train()
        assert len(pictures(runner)) == (4 if hooks else 0)
        ema = next(item for item in runner.hooks if isinstance(item, EMAHook))
        moments = runner.optim_wrapper.optimizer.state.values()
        weights = [*runner.model.state_dict().values(), *ema.ema_model.state_dict().values()]
        weights += [state['exp_avg_sq'] for state in moments]
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        results.append((weights, states))
    (weights, states), (drawn_weights, drawn_states) = results
    assert len(weights) == len(drawn_weights)
    assert all(torch.equal(a, b) for a, b in zip(weights, drawn_weights, strict=True))
    assert states[:2] == drawn_states[:2]
    assert torch.equal(states[2], drawn_states[2])


@pytest.mark.parametrize('priority', [{}, dict(priority='HIGH')])
def test_averaged_weights_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, priority: dict
) -> None:
    key, seen = 'query_embedding.weight', []
    detect = salience_visualization_hook.detect

    def spy(model: torch.nn.Module, *args: Any) -> Any:
        """Keep the weights that are drawn with."""
        seen.append(model.state_dict()[key].clone())
        return detect(model, *args)

    monkeypatch.setattr(salience_visualization_hook, 'detect', spy)
    average = dict(type='EMAHook', momentum=0.1, **priority)
    cfg = run_config(tmp_path, tiny_model_cfg(num_classes=2), average, hook(num_images=1))
    runner = Runner.from_cfg(cfg)
    runner.train()
    ema = next(item for item in runner.hooks if isinstance(item, EMAHook))
    assert torch.equal(seen[0], ema.ema_model.module.state_dict()[key])
    assert not torch.equal(seen[0], runner.model.state_dict()[key])


def dino_cfg(num_classes: int = 2) -> ConfigDict:
    """A tiny DINO; that of mmdet 3.3.0 can have 256 channels only."""
    return ConfigDict(tiny_dino_cfg(num_classes), type='PublishedDINO')


def test_detectors_without_salience(tmp_path: Path) -> None:
    """DINO gets ground truth and detections; validation alone is step 0, without train loop."""
    cfg = run_config(tmp_path, dino_cfg(), hook(num_images=9, score_thr=0.0, order='index'))
    runner = Runner.from_cfg(cfg)
    runner.val()
    names = ['val_0_1', 'val_1_2', 'val_2_3', 'val_3_4']
    assert list(pictures(runner)) == [(name, 0) for name in names]
    for picture in pictures(runner).values():
        truth, found = cells(picture)
        assert (truth != found).any()
    assert isinstance(runner._train_loop, dict)


def test_detections_are_the_same_without_salience(tmp_path: Path) -> None:
    model, found = tiny_model_cfg(num_classes=2), []
    for with_salience in (True, False):
        root = tmp_path / str(with_salience)
        root.mkdir()
        settings = hook(num_images=1, score_thr=0.0, draw_salience=with_salience)
        runner = Runner.from_cfg(run_config(root, model, settings))
        torch.manual_seed(0)
        runner.model.init_weights()
        runner.val()
        (picture,) = pictures(runner).values()
        found.append(cells(picture))
    assert [len(row) for row in found] == [3, 2]
    for with_salience, without in zip(*found, strict=False):
        np.testing.assert_array_equal(with_salience, without)


class BreaksImage(Hook):
    """Replaces a file after the evaluation has read it.

    Args:
        path: The file.
        content: What it then holds; None deletes it.
    """

    def __init__(self, path: Path, content: bytes | None) -> None:
        self.path, self.content = path, content

    def after_val_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """Break the file after the last image."""
        if batch_idx == 3:
            self.path.unlink()
            if self.content is not None:
                self.path.write_bytes(self.content)


@pytest.mark.parametrize('content', [b'no image', b'', None])
def test_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    """The other one is drawn all the same."""
    cfg = run_config(tmp_path, tiny_model_cfg(num_classes=2), hook(num_images=2))
    runner = Runner.from_cfg(cfg)
    runner.register_hook(BreaksImage(tmp_path / '2.png', content))  # with the largest object
    with mock.patch.object(runner.logger, 'warning') as warning:
        runner.val()
    (message,) = (call.args[0] for call in warning.call_args_list)
    assert message.startswith('No picture: ') and f'{tmp_path}/2.png' in message
    assert list(pictures(runner)) == [('val_2_3', 0)]


def test_one_process_draws(tmp_path: Path) -> None:
    runner = Runner.from_cfg(run_config(tmp_path, tiny_model_cfg(num_classes=2), hook()))
    with mock.patch.object(salience_visualization_hook, 'is_main_process', lambda: False):
        runner.val()
    assert not pictures(runner)
    runner.val()
    assert len(pictures(runner)) == 4


def test_spread_weights_are_left_alone() -> None:
    """One process alone would wait for the others' shares for ever."""
    warnings: list[str] = []
    logger = SimpleNamespace(warning=warnings.append)
    SalienceVisualizationHook().after_val_epoch(
        SimpleNamespace(model=ShardingWrapper(), logger=logger)
    )
    assert warnings == ['No pictures: ShardingWrapper cannot run on one process alone.']


@pytest.mark.slow
@pytest.mark.parametrize('detector', ['SalienceDETR', 'DINO'])
def test_two_processes(tmp_path: Path, detector: str) -> None:
    """Both processes reach the end, and each picture is there once."""
    model = tiny_model_cfg(2) if detector == 'SalienceDETR' else dino_cfg(2)
    if detector == 'DINO':
        model.train_cfg = tiny_model_cfg().train_cfg
        model.train_cfg.pop('salience_assigner')
    cfg = run_config(tmp_path, model, hook(num_images=2), epochs=2)
    cfg.runner_type = 'DataFittingRunner'
    cfg.data_check = None
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.val_dataloader.dataset.pipeline.pop(3)  # known to this file alone
    config = tmp_path / 'config.json'
    config.write_text(json.dumps(cfg.to_dict()))
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += [str(ROOT / 'tools' / 'train.py'), str(config)]
    done = subprocess.run(
        [*command, '--launcher', 'pytorch'], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = {path.name for path in tmp_path.rglob('vis_image/*.png')}
    assert names == {f'{name}_{step}.png' for name in ('val_2_3', 'val_1_2') for step in (1, 2)}


@pytest.mark.parametrize(
    'settings', [dict(num_images=0), dict(interval=0), dict(max_side=-1), dict(order='colour')]
)
def test_wrong_settings_are_named(settings: dict) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f'SalienceVisualizationHook: {name}='):
        SalienceVisualizationHook(**settings)


class Sizes:
    """A data set of squares, or none where the side is 0.

    Args:
        sides: Side of each image's square.
    """

    def __init__(self, *sides: int) -> None:
        self.sides = sides

    def __len__(self) -> int:
        """Number of images."""
        return len(self.sides)

    def get_data_info(self, index: int) -> dict:
        """The objects of an image."""
        side = self.sides[index]
        return dict(instances=[dict(bbox=[1, 1, 1 + side, 1 + side])] if side else [])


def test_choice_of_images() -> None:
    sizes = Sizes(9, 0, 25, 5, 14)
    assert choose_images(sizes, 3) == [1, 0, 2]
    assert choose_images(sizes, 99) == [1, 3, 0, 4, 2]
    assert choose_images(sizes, 3, 'index') == [0, 2, 4]
    assert choose_images(sizes, 1, 'index') == [0]
    with pytest.raises(ValueError, match='no images'):
        choose_images(Sizes(), 3)
    with pytest.raises(ValueError, match='by size or index, not by colour'):
        choose_images(sizes, 3, 'colour')


def test_cells_of_a_picture() -> None:
    """An image of 1000 x 500 becomes 200 x 100; boxes follow, weak detections are left out."""
    image = np.full((500, 1000, 3), 120, np.uint8)
    truth = np.array([[100.0, 100, 300, 200]]), np.array([1]), np.ones(1)
    boxes = np.array([[500.0, 250, 900, 400], [50, 50, 90, 90]])
    found = boxes, np.array([0, 1]), np.array([0.8, 0.2])
    heat = np.zeros((500, 1000), np.float32)
    style = CLASSES, [RED, GREEN]
    picture = validation_picture(image, truth, found, heat, *style, 0.3, max_side=512)
    assert picture.shape == (256 + TITLE_HEIGHT, 3 * 512 + 2 * GAP, 3)
    first, second, third = cells(picture)
    scale = 512 / 1000
    assert (first[round(150 * scale), round(100 * scale)] != 120).any()
    assert (second[round(330 * scale), round(500 * scale)] == RED).all()
    assert not (second == GREEN).all(axis=2).any()
    assert len(np.unique(third.reshape(-1, 3), axis=0)) == 1
    narrow = validation_picture(image[:, :20], truth, found, None, *style, 0.3, max_side=500)
    assert narrow.shape[1] == 2 * MIN_CELL_WIDTH + GAP


def test_undisturbed_puts_everything_back() -> None:
    """Also modes that differ within the model, and after an error."""
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Dropout(), torch.nn.ReLU())
    model.train()
    model[1].eval()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    with pytest.raises(KeyError), undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        random.random(), np.random.rand(), torch.rand(1)
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert torch.is_grad_enabled()
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_colours_for_all_classes() -> None:
    names = tuple(f'part {i}' for i in range(30))
    for palette in (None, [RED]):
        dataset = SimpleNamespace(metainfo=dict(classes=names, palette=palette))
        found, colors = salience_visualization_hook.names_and_colors(dataset)
        assert found == names and len(colors) == 30
        cv2.rectangle(np.zeros((9, 9, 3), np.uint8), (1, 1), (5, 5), colors[0])  # Python numbers
    own = SimpleNamespace(metainfo=dict(classes=CLASSES, palette=[RED, GREEN]))
    assert salience_visualization_hook.names_and_colors(own) == (CLASSES, [RED, GREEN])
