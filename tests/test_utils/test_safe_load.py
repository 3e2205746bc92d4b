"""Checkpoints of others run nothing, on any of the ways by which MMEngine loads them."""

import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import Evil, inference_config, tiny_model_cfg
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmdet_salience.apis import DetInferencer
from mmdet_salience.utils.config_text import find_code, require_plain_config
from mmdet_salience.utils.safe_load import (
    TRUST_VARIABLE,
    CheckpointFileError,
    load_safely,
    read_restricted,
    trusting,
)

LEGACY = dict(_use_new_zipfile_serialization=False)
SWITCHES = ('trust_checkpoints=True', TRUST_VARIABLE)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A checkpoint that would create a file, ``proof``, beside it."""
    path = tmp_path / 'evil.pth'
    weights = nn.Linear(1, 1).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(note=Evil(tmp_path / 'proof'))), path)
    return path


def assert_refused(evil: Path, load: Callable[[], Any]) -> None:
    """Check that a file is refused, with the two switches, and that it did nothing."""
    with pytest.raises(CheckpointFileError, match='holds more than weights') as error:
        load()
    assert all(switch in str(error.value) for switch in SWITCHES)
    assert not (evil.parent / 'proof').exists()


@pytest.mark.parametrize('legacy', [False, True])
def test_malicious_file_runs_nothing(evil: Path, legacy: bool) -> None:
    content = dict(a=Evil(evil.parent / 'proof'))
    torch.save(content, evil, _use_new_zipfile_serialization=not legacy)
    assert_refused(evil, lambda: load_safely(evil))
    assert_refused(evil, lambda: load_safely(evil, mmap=True))
    with pytest.raises(pickle.UnpicklingError, match=r'GLOBAL \w+\.open was not allowed'):
        read_restricted(evil, map_location='cpu')  # as older versions of PyTorch do
    assert not (evil.parent / 'proof').exists()


def test_every_way_to_load_is_safe(evil: Path, tmp_path: Path) -> None:
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    shutil.copy(evil, cache / 'named.pth')
    url = 'https://example.com/named.pth'
    model = nn.Linear(1, 1)
    assert_refused(evil, lambda: load_checkpoint(model, str(evil)))
    pretrained = BaseModule(init_cfg=dict(type='Pretrained', checkpoint=str(evil)))
    assert_refused(evil, pretrained.init_weights)
    schemes = 'mmdet_salience.utils.checkpoint_schemes'
    with (
        mock.patch('torch.hub.get_dir', return_value=str(tmp_path / 'hub')),
        mock.patch(f'{schemes}.get_torchvision_models', return_value=dict(net=url)),
        mock.patch(f'{schemes}.get_external_models', return_value=dict(net=url)),
        mock.patch(f'{schemes}.get_mmcls_models', return_value=dict(net=url)),
    ):
        for name in (url, 'torchvision://net', 'open-mmlab://net', 'mmcls://net'):
            assert_refused(evil, lambda name=name: CheckpointLoader.load_checkpoint(name))
    with mock.patch(f'{schemes}.get_local_path') as local:
        local.return_value.__enter__.return_value = str(evil)
        assert_refused(evil, lambda: CheckpointLoader.load_checkpoint('s3://bucket/evil.pth'))
    with pytest.raises(CheckpointFileError, match=r'pavi://a\.pth is not read; download'):
        CheckpointLoader.load_checkpoint('pavi://a.pth')
    covered = [loader.__module__ for loader in CheckpointLoader._schemes.values()]
    assert set(covered) == {schemes}


def test_downloads_are_kept(tmp_path: Path) -> None:
    def write(url: str, path: str) -> None:
        torch.save({'url': url}, path)

    url = 'https://example.com/net.pth?raw=true'
    with (
        mock.patch('torch.hub.get_dir', return_value=str(tmp_path)),
        mock.patch('torch.hub.download_url_to_file', side_effect=write) as download,
    ):
        for _ in range(2):
            assert CheckpointLoader.load_checkpoint(url) == {'url': url}
    assert download.call_count == 1
    assert (tmp_path / 'checkpoints' / 'net.pth').is_file()


def test_trust_is_said_by_block_or_environment(evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = evil.parent / 'proof'
    with trusting():
        load_safely(evil)
    assert proof.exists()
    proof.unlink()
    assert_refused(evil, lambda: load_safely(evil))
    monkeypatch.setenv(TRUST_VARIABLE, '1')
    load_safely(evil)
    assert proof.exists()
    monkeypatch.setenv(TRUST_VARIABLE, '0')
    proof.unlink()
    assert_refused(evil, lambda: load_safely(evil))


def test_trust_is_not_that_of_other_threads(evil: Path) -> None:
    with trusting(), ThreadPoolExecutor() as pool:
        assert_refused(evil, pool.submit(load_safely, evil).result)


def harmless() -> dict[str, Any]:
    """What MMEngine's checkpoints may hold."""
    history = HistoryBuffer()
    for value in (1.0, 3.0):
        history.update(value)
    return dict(
        history=history,
        arrays=[np.arange(3), np.array(['pit']), np.array([[1, 2], [3, 4]], '>i2', order='F')],
        numbers=[np.float32(0.5), np.int64(2), np.bool_(True)],
        plain=[Counter([3]), {1, 2}, b'bytes', slice(1, 2), 1j, frozenset([1])],
        weights=nn.Linear(2, 1).state_dict(),
        parameter=nn.Parameter(torch.tensor([[0.0, 1.0], [0.0, 0.0]]).T),
        others=[torch.Size([1, 2]), torch.device('cpu'), torch.int8, torch.ones(2, 0), np.str_('')],
    )


@pytest.mark.parametrize('mmap', [True, False])
@pytest.mark.parametrize('options', [{}, dict(pickle_protocol=4), LEGACY])
def test_harmless_classes_are_loaded(tmp_path: Path, options: dict, mmap: bool) -> None:
    saved = harmless()
    torch.save(saved, tmp_path / 'a.pth', **options)
    found = load_safely(tmp_path / 'a.pth', mmap=mmap)
    assert found['history'].mean() == 2
    assert [array.tolist() for array in found['arrays']] == [[0, 1, 2], ['pit'], [[1, 2], [3, 4]]]
    assert found['numbers'] == [0.5, 2, True]
    assert found['plain'] == saved['plain']
    assert list(found['weights']) == ['weight', 'bias']
    for name, value in saved['weights'].items():
        assert torch.equal(value, found['weights'][name])
    assert found['parameter'].requires_grad and found['parameter'].tolist() == [[0, 0], [1, 0]]
    copy = pickle.loads(pickle.dumps(found))  # nothing stands in for anything any more
    assert all(type(array) is np.ndarray for array in copy['arrays'])


@pytest.mark.parametrize('mmap', [True, False])
def test_tensors_without_storages_of_their_own_are_loaded(tmp_path: Path, mmap: bool) -> None:
    """PyTorch reads them from zip archives alone."""
    small = torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn)
    saved = [small[1:], torch.tensor([65535, 1]).to(torch.uint16)]
    torch.save(saved, tmp_path / 'a.pth')
    found = load_safely(tmp_path / 'a.pth', mmap=mmap)
    assert [value.dtype for value in found] == [torch.float8_e4m3fn, torch.uint16]
    assert [value.tolist() for value in found] == [[-2], [65535, 1]]


def test_histories_give_no_access_to_other_functions(tmp_path: Path) -> None:
    """Their pickles use getattr."""

    class Getter:
        def __init__(self, *arguments: Any) -> None:
            self.arguments = arguments

        def __reduce__(self) -> tuple:
            return getattr, self.arguments

    path = tmp_path / 'a.pth'
    torch.save(Getter(HistoryBuffer, 'mean'), path)
    assert load_safely(path) is HistoryBuffer.mean
    for arguments in ((HistoryBuffer, '__init__'), (np.ndarray, 'tofile')):
        torch.save(Getter(*arguments), path)
        with pytest.raises(CheckpointFileError, match=r'more than weights.*getattr'):
            load_safely(path)


def test_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    torch.jit.script(nn.Linear(1, 1)).save(str(path))
    with pytest.raises(CheckpointFileError, match='TorchScript'):
        load_safely(path)


@pytest.mark.parametrize(
    'text, found',
    [
        ('import os', 'Import'),
        ("model = dict(type='mmengine.rmtree', path='/')", 'the type mmengine.rmtree'),
        ("model = dict(type='mmengine.fileio.load')", 'the type mmengine.fileio.load'),
        ("model = dict(type='mmdet.models.DINO')", 'the type mmdet.models.DINO'),
        ("hooks = [dict(a=(dict(type='mmcv.imwrite'),))]", 'the type mmcv.imwrite'),
        ("runner_type = 'mmengine.runner.Runner'", 'the type mmengine.runner.Runner'),
        ("model = dict(type=[str, 'mmengine.rmtree'])", 'the type mmengine.rmtree'),
        ("model = dict(**{'type': 'a'})", 'the call dict'),
        ("model = {**{'type': 'a'}}", 'Dict'),
        ('a = ' + '-' * 100_000 + '1', 'a syntax error'),
        ('a = ' + '[' * 100_000, 'a syntax error'),
        ('#' * 3_000_000, '3000000 characters'),
        ('a = "\0"', 'a syntax error'),
        ("model = dict(type='\x1b.\x1b[2J')", 'the type .[2J)'),
        ("a = __import__('os')", '__import__'),
        ("model = dict(type='os.system', command='ls')", 'the type os.system'),
        ("model = dict({'type': 'subprocess.run'})", 'the type subprocess.run'),
        ("model = dict([('type', 'os.system')])", 'the call dict'),
        ("t = 'os.system'\nmodel = dict(type=t)", 'the name t'),
        ("custom_imports = dict(imports=['evil'])", 'the import of evil'),
        ("a = '{{$NONE:1}}'", 'a template'),
        ("_base_ = '/tmp/other.py'", 'a base config'),
        ("model = dict(_scope_='evil')", 'the scope evil'),
        ('a = [x for x in ()]', 'ListComp'),
    ],
)
def test_configs_with_code_are_refused(text: str, found: str) -> None:
    with pytest.raises(CheckpointFileError, match='more than plain values') as error:
        require_plain_config(text, 'a.pth')
    assert found in str(error.value) and 'model=...' in str(error.value)
    with trusting():
        require_plain_config(text, 'a.pth')


def test_configs_of_trainings_are_plain() -> None:
    cfg = inference_config(tiny_model_cfg())
    cfg.optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'a.b': dict(lr_mult=-0.1)}))
    cfg.model.backbone.type = 'mmdet.ResNet'
    assert not list(find_code(cfg.pretty_text))


def test_inferencer_checks_the_config_in_a_checkpoint(tmp_path: Path) -> None:
    proof = tmp_path / 'proof'
    meta = dict(cfg=f'open({str(proof)!r}, "w")')
    torch.save(dict(state_dict={}, meta=meta), tmp_path / 'a.pth')
    with pytest.raises(CheckpointFileError, match=r'more than plain values \(Expr\)'):
        DetInferencer(weights=str(tmp_path / 'a.pth'), device='cpu')
    assert not proof.exists()
    # Trusted, it runs, and has no model.
    with pytest.raises(AttributeError, match="no attribute 'model'"):
        DetInferencer(weights=str(tmp_path / 'a.pth'), device='cpu', trust_checkpoints=True)
    assert proof.exists()
