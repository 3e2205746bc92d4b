"""tools/train.py and tools/test.py, from training to painted pictures, with a tiny DINO."""

import gc
import importlib.util
import json
import multiprocessing
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
NUM_IMAGES = 2
SIDE = 64
PATIENCE = 120  # seconds

TINY_CONFIG = """
data_root = '{root}/'
norm = dict(type='GN', num_groups=4)
attention = dict(embed_dims=256, num_heads=2, dropout=0.0)
cross = dict(embed_dims=256, num_heads=2, num_levels=2, dropout=0.0)
ffn = dict(embed_dims=256, feedforward_channels=32, ffn_drop=0.0)
model = dict(
    type='DINO', num_queries=10, with_box_refine=True, as_two_stage=True,
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[127.5] * 3, std=[60.0] * 3, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, out_indices=(2, 3), init_cfg=None),
    neck=dict(type='ChannelMapper', in_channels=[256, 512], kernel_size=1, out_channels=256,
              act_cfg=None, norm_cfg=norm, num_outs=2),
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=cross, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=1, return_intermediate=True, post_norm_cfg=None,
        layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=cross, ffn_cfg=ffn)),
    positional_encoding=dict(num_feats=128, normalize=True),
    bbox_head=dict(
        type='DINOHead', num_classes=1, embed_dims=256, sync_cls_avg_factor=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    dn_cfg=dict(label_noise_scale=0.5, box_noise_scale=1.0,
                group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=4)),
    train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=[
        dict(type='FocalLossCost', weight=2.0),
        dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
        dict(type='IoUCost', iou_mode='giou', weight=2.0)])),
    test_cfg=dict(max_per_img=10))
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=({side}, {side}), keep_ratio=True)]
train_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='annotations.json',
        data_prefix=dict(img=''), metainfo=dict(classes=('blob',)),
        pipeline=[*load, dict(type='PackDetInputs')]))
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='annotations.json', test_mode=True,
        data_prefix=dict(img=''), metainfo=dict(classes=('blob',)),
        pipeline=[*load, dict(type='PackDetInputs', meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
test_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations.json', metric='bbox')
test_cfg = dict(type='TestLoop')
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1),
    visualization=dict(type='DetVisualizationHook', score_thr=0.0))
visualizer = dict(type='DetLocalVisualizer')
"""


def load_tool(name: str) -> ModuleType:
    """Import ``tools/NAME.py`` under a name of its own."""
    spec = importlib.util.spec_from_file_location(f'tools_{name}', TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_tool, test_tool = load_tool('train'), load_tool('test')


def write_data(root: Path) -> None:
    """Write images with one bright square each, and their COCO annotations."""
    images, annotations = [], []
    for i in range(1, NUM_IMAGES + 1):
        picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
        picture[8 * i : 8 * i + 24, 16:40] = 200
        cv2.imwrite(str(root / f'{i}.png'), picture)
        images.append(dict(id=i, file_name=f'{i}.png', width=SIDE, height=SIDE))
        annotations.append(
            dict(id=i, image_id=i, category_id=1, bbox=[16, 8 * i, 24, 24], area=576, iscrowd=0)
        )
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='blob')])
    (root / 'annotations.json').write_text(json.dumps(content))


def write_config(root: Path, name: str = 'tiny.py', extra: str = '') -> Path:
    """Write the tiny config, with more lines at its end, and return its path."""
    path = root / name
    path.write_text(TINY_CONFIG.format(root=root.as_posix(), side=SIDE) + extra)
    return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with data, ``tiny.py`` and a one-epoch training in ``work``."""
    root = tmp_path_factory.mktemp('tools')
    write_data(root)
    config = write_config(root)
    train_tool.main([str(config), '--work-dir', str(root / 'work')])
    return root


def assert_exits(
    capsys: pytest.CaptureFixture, tool: ModuleType, argv: list[str], message: str
) -> None:
    """Check that a tool ends with a usage error that contains a message."""
    with pytest.raises(SystemExit) as stop:
        tool.main(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def parse(argv: list[str], tool: ModuleType = train_tool) -> Config:
    """Config that a tool makes of a command line."""
    return tool.prepare_config(tool.build_parser().parse_args(argv))


def run_test(config: Path, work_dir: Path, *flags: str) -> list[dict]:
    """Predictions that tools/test.py saves for the trained checkpoint beside a config."""
    out = work_dir / 'results.pkl'
    checkpoint = config.parent / 'work' / 'epoch_1.pth'
    argv = [str(config), str(checkpoint), '--work-dir', str(work_dir), '--out', str(out)]
    test_tool.main([*argv, *flags])
    return pickle.loads(out.read_bytes())


def test_train_writes_a_checkpoint(trained: Path) -> None:
    """One epoch of two images ends with a checkpoint at iteration two."""
    checkpoint = torch.load(trained / 'work' / 'epoch_1.pth', weights_only=False)
    assert checkpoint['meta']['iter'] == NUM_IMAGES


@pytest.mark.parametrize('resume', ['auto', 'path'])
def test_resume_continues(trained: Path, tmp_path: Path, resume: str) -> None:
    """A resumed run goes on from the first epoch's end, whichever way it is found."""
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    first = trained / 'work' / 'epoch_1.pth'
    if resume == 'auto':
        (work_dir / 'last_checkpoint').write_text(str(first))
    argv = [str(trained / 'tiny.py'), '--work-dir', str(work_dir), '--resume']
    argv += ['auto' if resume == 'auto' else str(first)]
    train_tool.main([*argv, '--cfg-options', 'train_cfg.max_epochs=2'])
    checkpoint = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    assert checkpoint['meta']['iter'] == 2 * NUM_IMAGES
    assert not (work_dir / 'epoch_1.pth').exists()


def test_test_saves_predictions_and_pictures(trained: Path, tmp_path: Path) -> None:
    """One run writes metrics, the predictions of every image and a picture of each."""
    results = run_test(trained / 'tiny.py', tmp_path, '--show-dir', 'painted')
    assert sorted(r['img_id'] for r in results) == list(range(1, NUM_IMAGES + 1))
    assert results[0]['pred_instances']['bboxes'].shape == (10, 4)
    assert len(list(tmp_path.glob('*/painted/*.png'))) == NUM_IMAGES
    metrics = [json.loads(path.read_text()) for path in tmp_path.glob('*/*.json')]
    assert any('coco/bbox_mAP' in m for m in metrics)


def test_tta_loads_the_weights_and_merges(trained: Path, tmp_path: Path) -> None:
    """Where the merge drops nothing, it holds all boxes of the picture and of its mirror image."""
    merge = dict(nms=dict(type='nms', iou_threshold=1.0), max_per_img=100)
    model = f"tta_model = dict(type='DetTTAModel', tta_cfg={merge})\n"
    config = write_config(trained, 'tta.py', model)
    scores = []
    for flags in ([], ['--tta']):
        first = min(run_test(config, tmp_path, *flags), key=lambda r: r['img_id'])
        scores.append(first['pred_instances']['scores'].numpy())
    plain, merged = scores
    assert len(merged) == 2 * len(plain)
    assert all(np.abs(merged - score).min() < 1e-5 for score in plain)


def run_as_rank(rank: int, port: int, tool: ModuleType, argv: list[str]) -> None:
    """Run a tool as one of two processes; check that nothing of the other one is left."""
    meeting_point = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE='2')
    os.environ.update(meeting_point, RANK=str(rank), LOCAL_RANK=str(rank))
    with mock.patch('mmengine.runner.runner.collect_env', dict):  # which calls compilers
        tool.main([*argv, '--launcher', 'pytorch'])
    assert not torch.distributed.is_initialized()
    assert not [item for item in gc.get_objects() if type(item).__name__.endswith('DataParallel')]


def test_processes_part_before_they_end(tmp_path: Path) -> None:
    """Threads of a process group that outlive Python abort the process or keep it from ending."""
    write_data(tmp_path)
    config = write_config(
        tmp_path, extra="custom_imports = dict(imports=['mmdet_salience'])\nenv_cfg = dict()\n"
    )
    work = tmp_path / 'work'
    for tool, argv in (
        (train_tool, [str(config), '--work-dir', str(work)]),
        (test_tool, [str(config), str(work / 'epoch_1.pth'), '--work-dir', str(work)]),
    ):
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
        context = multiprocessing.get_context('fork')
        ranks = [context.Process(target=run_as_rank, args=(i, port, tool, argv)) for i in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(PATIENCE)
        assert [process.exitcode for process in ranks] == [0, 0]
    assert (work / 'epoch_1.pth').is_file()


def test_work_dir_comes_from_option_config_or_name(tmp_path: Path) -> None:
    """The option wins over the config's work_dir, which wins over the config's name."""
    plain = write_config(tmp_path)
    named = write_config(tmp_path, 'named.py', "work_dir = 'mine'\n")
    assert Path(parse([str(plain)]).work_dir) == Path('work_dirs/tiny')
    assert parse([str(named)]).work_dir == 'mine'
    assert parse([str(named), '--work-dir', 'other']).work_dir == 'other'


def test_cfg_options_override_the_config(tmp_path: Path) -> None:
    """Nested keys and lists reach the config."""
    options = ['model.num_queries=7', 'model.data_preprocessor.mean=[1,2,3]']
    cfg = parse([str(write_config(tmp_path)), '--cfg-options', *options])
    assert (cfg.model.num_queries, cfg.model.data_preprocessor.mean) == (7, [1, 2, 3])


def test_amp_keeps_what_the_config_says(tmp_path: Path) -> None:
    """On a GPU the wrapper is exchanged; dtype and loss scale of the config stay."""
    config = str(write_config(tmp_path))
    with mock.patch.object(train_tool, 'get_device', return_value='cuda'):
        wrapper = parse([config, '--amp']).optim_wrapper
        assert (wrapper.type, wrapper.loss_scale) == ('AmpOptimWrapper', 'dynamic')
        options = ['optim_wrapper.dtype=bfloat16', 'optim_wrapper.loss_scale=512.']
        wrapper = parse([config, '--amp', '--cfg-options', *options]).optim_wrapper
        assert (wrapper.dtype, wrapper.loss_scale) == ('bfloat16', 512.0)
        with pytest.raises(ValueError, match='ApexOptimWrapper'):
            parse([config, '--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper'])


def test_amp_without_a_gpu_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The error names the option and the device."""
    config = str(write_config(tmp_path))
    with mock.patch.object(train_tool, 'get_device', return_value='cpu'):
        assert_exits(capsys, train_tool, [config, '--amp'], '--amp needs a GPU')


def test_auto_scale_lr(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """It is switched on where the config knows its batch size, and an error elsewhere."""
    scaled = write_config(tmp_path, 'scaled.py', 'auto_scale_lr = dict(base_batch_size=16)\n')
    assert parse([str(scaled), '--auto-scale-lr']).auto_scale_lr.enable
    config = str(write_config(tmp_path))
    assert_exits(capsys, train_tool, [config, '--auto-scale-lr'], 'base_batch_size')


def test_auto_resume_without_checkpoint_starts_from_load_from(tmp_path: Path) -> None:
    """The first start of a restartable run still loads its pretrained weights."""
    config = write_config(tmp_path, 'tuned.py', "load_from = 'pretrained.pth'\n")
    cfg = parse([str(config), '--work-dir', str(tmp_path / 'none'), '--resume'])
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')


def test_missing_files_are_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A wrong path to a config or a checkpoint is named."""
    config = str(write_config(tmp_path))
    assert_exits(capsys, train_tool, ['no.py'], 'there is no config file no.py')
    assert_exits(capsys, train_tool, [config, '--resume', 'no.pth'], 'there is no checkpoint no')
    assert_exits(capsys, test_tool, ['no.py', 'no.pth'], 'there is no config file no.py')
    assert_exits(capsys, test_tool, [config, 'no.pth'], 'there is no checkpoint no.pth')


def test_test_names_what_the_config_lacks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """No test data, no hook to draw and a wrong file name are errors that name the remedy."""
    config = str(write_config(tmp_path))
    url = 'https://example.com/model.pth'
    no_data = str(write_config(tmp_path, 'no_data.py', 'test_dataloader = None\n'))
    no_hook = str(write_config(tmp_path, 'no_hook.py', "default_hooks.pop('visualization')\n"))
    assert_exits(capsys, test_tool, [no_data, url], 'has no test_dataloader')
    assert_exits(capsys, test_tool, [no_hook, url, '--show'], 'DetVisualizationHook')
    assert_exits(capsys, test_tool, [config, url, '--out', 'results.json'], '.pkl')


def test_tta_reaches_wrapped_datasets(tmp_path: Path) -> None:
    """Every dataset inside wrappers gets the augmented pipeline, the config's own if any."""
    wrap = (
        "test_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[dict("
        "type='RepeatDataset', times=1, dataset=test_dataloader['dataset'])])\n"
    )
    url = 'https://example.com/model.pth'
    cfg = parse([str(write_config(tmp_path, 'wrap.py', wrap)), url, '--tta'], test_tool)
    leaf = cfg.test_dataloader.dataset.datasets[0].dataset
    assert [step.type for step in leaf.pipeline][-1] == 'TestTimeAug'
    assert (cfg.model.type, cfg.model.module.type) == ('DetTTAModel', 'DINO')
    own = "tta_model = dict(type='Mine')\ntta_pipeline = [dict(type='Own')]\n"
    cfg = parse([str(write_config(tmp_path, 'own.py', own)), url, '--tta'], test_tool)
    assert cfg.test_dataloader.dataset.pipeline == [dict(type='Own')]
    assert cfg.model.type == 'Mine'


def test_source_checkout_needs_no_installation(tmp_path: Path) -> None:
    """From any folder, a config's custom_imports find the checkout's package."""
    imports = "custom_imports = dict(imports=['mmdet_salience'], allow_failed_imports=False)\n"
    config = write_config(tmp_path, 'imports.py', imports)
    argv = [sys.executable, str(TOOLS / 'train.py'), str(config), '--auto-scale-lr']
    run = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert re.search('error: --auto-scale-lr needs', run.stderr)
