"""Configs of checkpoints: what they may say, and that nothing else of them is built."""

import copy
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import mmcv
import mmdet
import numpy as np
import pytest
import torch
from helpers import build, inference_config, tiny_model_cfg
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, TASK_UTILS, TRANSFORMS

from mmdet_salience.apis import DetInferencer, load_checkpoint_config
from mmdet_salience.utils.foreign_config import (
    BACKENDS,
    LEFT_OUT,
    READERS,
    READING_TYPES,
    TYPE_LIKE,
    find_registered,
    walk_registry,
)
from mmdet_salience.utils.safe_load import CheckpointFileError

Change = Callable[[Config, Path], None]


@cache
def whole_config() -> Config:
    """A config as checkpoints hold it."""
    return inference_config(tiny_model_cfg())


@pytest.fixture
def cfg() -> Config:
    """A config to change."""
    return copy.deepcopy(whole_config())


@pytest.fixture(scope='module')
def weights() -> dict[str, torch.Tensor]:
    """Weights of the model that the configs describe."""
    return build(tiny_model_cfg()).state_dict()


def save(folder: Path, cfg: Config, weights: dict[str, torch.Tensor] | None = None) -> str:
    """Save a checkpoint with a config, written faster than MMEngine does."""
    text = '\n'.join(f'{name} = {value!r}' for name, value in cfg.to_dict().items())
    meta = dict(cfg=text, dataset_meta=dict(classes=('a', 'b', 'c')))
    torch.save(dict(state_dict=weights or {}, meta=meta), folder / 'a.pth')
    return str(folder / 'a.pth')


def evil_module(cfg: Config, folder: Path, name: str = 'evil_module') -> str:
    """A module beside the checkpoint that would create a file."""
    (folder / f'{name}.py').write_text(f'open({str(folder / "proof")!r}, "w")\n')
    return name


def evil_pickle(folder: Path) -> str:
    """A pickle beside the checkpoint that would create a file."""
    path = folder / 'evil.pkl'
    path.write_bytes(b"cbuiltins\nopen\n(S'%s'\nS'w'\ntR." % bytes(folder / 'proof'))
    return str(path)


def set_type(cfg: Config, folder: Path) -> None:
    cfg.model.data_preprocessor = dict(type=evil_module(cfg, folder))


def set_padding(cfg: Config, folder: Path) -> None:
    """MMCV makes a type of the padding mode."""
    cfg.model.neck.padding_mode = evil_module(cfg, folder)


def set_ambiguous_type(cfg: Config, folder: Path) -> None:
    """Registered, but not as a model: MMEngine would import the module instead."""
    cfg.model.data_preprocessor = dict(type=evil_module(cfg, folder, 'BboxOverlaps2D'))


def set_expression(cfg: Config, folder: Path) -> None:
    """MMDetection evaluates this argument as Python, and MMCV the type of its NMS."""
    proof = str(folder / 'proof')
    cfg.model.decoder = dict(type='CameraMotionCompensation', warp_mode=f'open({proof!r}, "w")')


def set_nms(cfg: Config, folder: Path) -> None:
    proof = str(folder / 'proof')
    cfg.model.test_cfg = dict(nms=dict(type=f'open({proof!r}, "w")'))


def set_teacher(cfg: Config, folder: Path) -> None:
    """The detector reads the config file, which is Python."""
    evil_module(cfg, folder)
    kind = 'KnowledgeDistillationSingleStageDetector'
    cfg.model.update(type=kind, teacher_config=str(folder / 'evil_module.py'))


def set_scope(cfg: Config, folder: Path) -> None:
    (folder / 'evil_scope').mkdir()
    evil_module(cfg, folder / 'evil_scope', 'registry')
    cfg.model.neck._scope_ = 'evil_scope'


def set_language_model(cfg: Config, folder: Path) -> None:
    cfg.model.language_model = dict(type='BertModel', name='bert-base-uncased')


def set_described_elsewhere(cfg: Config, folder: Path) -> None:
    cfg.model.backbone = dict(type='TransformersBackbone', pretrained='facebook/convnext-tiny-224')


def set_language_backbone(cfg: Config, folder: Path) -> None:
    """The library reads the folder, which may lie beside the checkpoint."""
    cfg.model.backbone = dict(type='BertModel', name='evilfolder')


def set_scoped_language_backbone(cfg: Config, folder: Path) -> None:
    cfg.model.backbone = dict(type='mmdet.BertModel', name='evilfolder')


def set_types_in_a_list(cfg: Config, folder: Path) -> None:
    cfg.model.neck.conv_types = [[evil_module(cfg, folder)]]


def set_path(cfg: Config, folder: Path) -> None:
    cfg.model.backbone.style = '../../weights.pkl'


def set_address(cfg: Config, folder: Path) -> None:
    cfg.model.backbone.style = 'https:'


def set_number(cfg: Config, folder: Path) -> None:
    cfg.model.backbone.style = b'bytes'


def set_classes(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset.metainfo = dict(classes=evil_pickle(folder))


def set_palette(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset.metainfo = dict(palette=[('a', 'b')])


def set_backend(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset.pipeline[0].backend_args = dict(backend='petrel')


def set_file_client(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset.pipeline[0].file_client_args = dict(backend='http')


def set_transform(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type=evil_module(cfg, folder)))


def set_inner_transform(cfg: Config, folder: Path) -> None:
    inner = [[dict(type='Albu', transforms=[dict(type='from_dict')])]]
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='RandomChoice', transforms=inner))


def set_tokenizer(cfg: Config, folder: Path) -> None:
    kind = 'RandomSamplingNegPos'
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type=kind, tokenizer_name='bert'))


def remove_model(cfg: Config, folder: Path) -> None:
    cfg.pop('model')


def replace_model(cfg: Config, folder: Path) -> None:
    cfg.model = dict(backbone=cfg.model.backbone)


def replace_loader(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader = [1]


def replace_transform(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset.pipeline[1] = 1


def empty_pipeline(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset.pipeline = []


def remove_pipeline(cfg: Config, folder: Path) -> None:
    cfg.test_dataloader.dataset = dict(datasets=[])


REFUSED: dict[Change, str] = {
    set_type: r"model\.data_preprocessor\.type='evil_module' is not registered",
    set_padding: r"model\.neck\.padding_mode='evil_module' is the name of a module",
    set_ambiguous_type: r"model\.data_preprocessor\.type='BboxOverlaps2D' is also the name",
    set_expression: r'model\.decoder\.warp_mode=.* is no plain word',
    set_nms: r'model\.test_cfg\.nms\.type=.* is not registered|the type open',
    set_teacher: r'model\.teacher_config=.* reads other files',
    set_scope: 'the scope evil_scope',
    set_language_model: r'model\.language_model=.* reads other files',
    set_described_elsewhere: r'model\.backbone\.pretrained=.* describes the model elsewhere',
    set_language_backbone: r"model\.backbone\.type='BertModel' reads other files",
    set_scoped_language_backbone: r'model\.backbone\.type=.* reads other files',
    set_types_in_a_list: r'model\.neck\.conv_types\[0\]\[0\]=.* is the name of a module',
    set_path: r'model\.backbone\.style=.* is no plain word',
    set_address: r'model\.backbone\.style=.* is no plain word',
    set_number: r'model\.backbone\.style=.* is a bytes',
    set_classes: r'metainfo\.classes=.* is no list of names',
    set_palette: r'metainfo\.palette=.* is no list of colours',
    set_backend: r'test_pipeline\[0\]\.backend_args=.* reads images in another way',
    set_file_client: r'test_pipeline\[0\]\.file_client_args=.* reads images in another way',
    set_transform: r"test_pipeline\[1\]\.type='evil_module' is not registered",
    set_inner_transform: r"\[0\]\[0\]\.transforms\[0\]\.type='from_dict' is not registered",
    set_tokenizer: r'test_pipeline\[1\]\.tokenizer_name=.* reads other files',
    remove_model: 'there is no model',
    replace_model: 'there is no model',
    **dict.fromkeys(
        (replace_loader, replace_transform, empty_pipeline, remove_pipeline), 'has no pipeline'
    ),
}


@pytest.mark.parametrize('change', REFUSED)
def test_harmful_configs_are_refused(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))  # as Python does with the folder it is run in
    change(cfg, tmp_path)
    weights = save(tmp_path, cfg)
    for load in (load_checkpoint_config, lambda path: DetInferencer(weights=path, device='cpu')):
        with pytest.raises(CheckpointFileError, match=REFUSED[change]) as error:
            load(weights)
        assert 'model=...' in str(error.value) and 'trust_checkpoints=True' in str(error.value)
    assert not (tmp_path / 'proof').exists()


def test_a_checkpoint_cannot_remove_a_folder(cfg: Config, tmp_path: Path) -> None:
    cfg.model = dict(type='mmengine.rmtree', path=str(tmp_path / 'victim'))
    weights = save(tmp_path, cfg)
    (tmp_path / 'victim').mkdir()
    with pytest.raises(CheckpointFileError, match=r'the type mmengine\.rmtree'):
        DetInferencer(weights=weights, device='cpu')
    assert (tmp_path / 'victim').is_dir()


def test_what_inference_does_not_need_is_not_built(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor]
) -> None:
    """Datasets, hooks, weights of other files, drawing backends: nothing of them is read."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = evil_module(cfg, tmp_path)
    dataset = cfg.test_dataloader.dataset
    dataset.update(type=name, ann_file=evil_pickle(tmp_path), proposal_file='x.pkl')
    cfg.test_dataloader = dict(
        collate_fn=dict(type=name), dataset=dict(type='ConcatDataset', datasets=[dataset])
    )
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=evil_pickle(tmp_path))
    cfg.model.pretrained = evil_pickle(tmp_path)
    cfg.visualizer = dict(type=name, vis_backends=[dict(type=name)])
    cfg.update(custom_hooks=[dict(type=name)], runner_type=name, test_evaluator=dict(type=name))
    cfg.custom_imports = dict(imports=['mmdet.evil', 'mmdet_salience'])
    inferencer = DetInferencer(weights=save(tmp_path, cfg, weights), device='cpu')
    assert not (tmp_path / 'proof').exists()
    assert set(inferencer.cfg) == {'default_scope', 'model', 'test_dataloader', 'visualizer'}
    assert 'init_cfg' not in inferencer.cfg.model.backbone
    assert set(inferencer.cfg.test_dataloader.dataset) == {'type', 'metainfo', 'pipeline'}


def test_same_detections_as_with_the_config(
    cfg: Config, tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    cfg.model.test_cfg = dict(max_per_img=5, nms=dict(type='nms', iou_threshold=0.5))
    cfg.test_dataloader.dataset.metainfo = dict(
        classes=('a crack', 'b', 'c'), palette=[(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    )
    cfg.test_dataloader.dataset.pipeline[0].backend_args = dict(backend='local')
    path = save(tmp_path, cfg, weights)
    image = str(tmp_path / 'a.png')
    cv2.imwrite(image, np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8))
    given = inference_detector(init_detector(cfg, path, device='cpu'), image).pred_instances
    own = load_checkpoint_config(path)
    found = inference_detector(init_detector(own, path, device='cpu'), image).pred_instances
    assert torch.equal(given.scores, found.scores) and len(given.scores) == 5
    inferencer = DetInferencer(weights=path, device='cpu')
    scores = inferencer(image, no_save_vis=True)['predictions'][0]['scores']
    assert scores == given.scores.tolist()
    assert inferencer.model.dataset_meta['palette'] == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]


def test_values_are_read_as_they_were_written(cfg: Config, tmp_path: Path) -> None:
    cfg.model.test_cfg = {'a.b': (1, [-2.5, None, True]), 'c': {'d'}}
    torch.save(dict(message_hub=dict(runtime_info=dict(cfg=cfg.pretty_text))), tmp_path / 'a.pth')
    found = load_checkpoint_config(str(tmp_path / 'a.pth')).model
    assert found.test_cfg == cfg.model.test_cfg
    assert type(found.test_cfg['a.b']) is tuple
    del cfg.model.backbone['init_cfg']
    assert found.to_dict() == cfg.model.to_dict()


@pytest.mark.parametrize('meta', [None, [], {}, dict(cfg='')])
def test_checkpoints_without_config_are_named(tmp_path: Path, meta: object) -> None:
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict={}, meta=meta, message_hub=[1]), path)
    with pytest.raises(CheckpointFileError, match=r'a\.pth holds no config.*model=\.\.\.'):
        DetInferencer(weights=str(path), device='cpu')


def test_names_with_more_than_a_scope_are_not_registered() -> None:
    assert find_registered('CheckpointHook', [HOOKS]) is not None
    assert find_registered('mmengine.CheckpointHook', [HOOKS]) is not None
    assert find_registered('mmdet.CheckpointHook', [HOOKS]) is None
    assert find_registered('mmengine.hooks.CheckpointHook', [HOOKS]) is None
    assert find_registered('mmengine.mmengine.CheckpointHook', [HOOKS]) is None


def registered() -> Iterator[tuple[str, type]]:
    """Names and classes of all that a checkpoint's config may have built."""
    for root in (MODELS, TASK_UTILS, TRANSFORMS):
        for registry in walk_registry(root):
            registry.import_from_location()
            for name, kind in registry.module_dict.items():
                if inspect.isclass(kind):
                    yield name, kind


# Words in the names of arguments that lead to other files, and arguments that have them and do not.
READING_WORDS = {
    'address', 'auto', 'cache', 'checkpoint', 'ckpt', 'code', 'dir', 'dirs', 'download', 'file',
    'files', 'folder', 'hub', 'language', 'name', 'path', 'paths', 'pretrained', 'remote', 'repo',
    'root', 'server', 'source', 'tokenizer', 'url', 'urls',
}  # fmt: skip
HARMLESS = {
    'auto_pad', 'auto_remap',  # of sizes, and of keys
    'drop_path_rate',  # stochastic depth
    'paths',  # of a feature pyramid
    'use_checkpoint',  # of activations
}  # fmt: skip


def test_arguments_that_could_read_are_known() -> None:
    """A new one fails: refuse it by READERS, or list it as harmless."""
    found = {
        (argument, name)
        for name, kind in registered()
        for base in kind.__mro__
        if '__init__' in vars(base) and base is not object
        for argument in inspect.signature(base.__init__).parameters
        if READING_WORDS & set(argument.split('_'))
    }
    known = {*READERS, *BACKENDS, *LEFT_OUT, *HARMLESS}
    assert len(found) > 20
    assert {
        pair for pair in found if pair[0] not in known and pair[1] not in READING_TYPES
    } == set()


def test_what_becomes_a_type_is_looked_at() -> None:
    """Arguments of which MMCV and MMDetection make types have the words that the check goes by."""
    pattern = re.compile(r"dict\(type=([a-z_]\w*)\b(?![(\[])|\['type'\] = (?:self\.)?([a-z_]\w*)")
    texts = [
        path.read_text(encoding='utf-8')
        for package in (mmcv, mmdet)
        for path in Path(package.__file__).parent.rglob('*.py')
        if '.mim' not in path.parts and 'configs' not in path.parts
    ]
    found = {first or last for text in texts for first, last in pattern.findall(text)}
    assert 'padding_mode' in found
    assert {name for name in found if not TYPE_LIKE.search(name)} == set()


def test_modules_beside_an_honest_checkpoint_do_no_harm(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MMDetection may be a checkout, and a folder may be called as a word of the config."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ('pytorch', 'mmdet', 'checkout'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').touch()
    monkeypatch.setitem(sys.modules, 'checkout', mmdet)
    cfg.model.update(_scope_='mmdet')
    cfg.model.backbone.style = 'pytorch'
    cfg.model.test_cfg = dict(mode='checkout')
    assert load_checkpoint_config(save(tmp_path, cfg)).model.backbone.style == 'pytorch'
