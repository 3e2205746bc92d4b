"""Settings on the command lines of the tools: paths with spaces and commas, and refusals."""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from mmengine.config import Config

from mmdet_salience.datasets import data_files, move_data_root, split_datasets

TOOLS = ROOT / 'tools'
CONFIG = ROOT / 'configs/salience_detr/salience-detr_r50_4xb2-10000i_custom.py'
FOLDERS = ['my data, new/', 'my data, new', "d'or", '1e3', '2024', 'None', '[a](b', 'a  b', ' a']
sys.path.append(str(TOOLS))

settings = importlib.import_module('_settings')
common = importlib.import_module('_common')


def read(*argv: str) -> Config:
    """Config of a command line, as tools/train.py and tools/test.py read it."""
    parser = argparse.ArgumentParser()
    common.add_run_options(parser, 'checkpoints', 'a=1')
    return common.load_config(parser.parse_args([str(CONFIG), *argv]))


def refusal(capsys: pytest.CaptureFixture, *values: str) -> str:
    """What the parser says about ``--cfg-options`` that it refuses."""
    with pytest.raises(SystemExit) as stop:
        read('--cfg-options', *values)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('folder', FOLDERS)
def test_data_root_is_taken_as_it_is(folder: str) -> None:
    cfg = read(f'--data-root={folder}')
    assert cfg.data_root == folder
    for split, name in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        (dataset,) = split_datasets(cfg, split)
        root = folder if folder.endswith('/') else f'{folder}/'
        assert data_files(dataset) == (f'{root}annotations/{name}.json', root)


def test_data_root_goes_with_other_settings() -> None:
    cfg = read('--data-root', 'a b', '--cfg-options', 'train_cfg.max_iters=7')
    assert (cfg.train_cfg.max_iters, cfg.data_root) == (7, 'a b')


@pytest.mark.parametrize('folder', ['my data, new/', 'my data', 'a,b', '1e3', '2024', 'a  b'])
def test_a_changed_data_root_is_refused_with_the_option(
    folder: str, capsys: pytest.CaptureFixture
) -> None:
    message = refusal(capsys, f'data_root={folder}')
    assert f'data_root={folder}: ' in message
    assert f'--data-root "{folder}"' in message


@pytest.mark.parametrize(
    'value',
    [
        'load_from=my model.pth',
        'train_dataloader.dataset.ann_file=a,b.json',
        'train_dataloader.dataset.data_prefix.img=my images/',
        'test_evaluator.outfile_prefix=20261125',
        'default_hooks.checkpoint.out_dir=runs,new',
        'model.backbone.init_cfg.checkpoint=1e3',
        'visualizer.name=007',
        'train_dataloader.dataset.metainfo.classes=[pin hole,spur]',
    ],
)
def test_other_changed_texts_are_refused(value: str, capsys: pytest.CaptureFixture) -> None:
    message = refusal(capsys, value)
    assert value in message
    assert '_base_' in message


def test_the_work_folder_has_an_option_of_its_own(capsys: pytest.CaptureFixture) -> None:
    assert '--work-dir "my runs"' in refusal(capsys, 'work_dir=my runs')


@pytest.mark.parametrize(
    'value, parsed',
    [
        ('a=[(1, 2), (3,4)]', [(1, 2), (3, 4)]),
        ('a=1,2', [1, 2]),
        ('a=1e-4', 1e-4),
        ('load_from=None', None),
        ('outfile_prefix=work/results', 'work/results'),
        ('data_root="data/set"', 'data/set'),
        ('ann_file=a=b.json', 'a=b.json'),
    ],
)
def test_what_the_parser_reads_well_passes(value: str, parsed: object) -> None:
    cfg = read('--cfg-options', value)
    assert cfg[value.partition('=')[0]] == parsed


def test_words_that_are_no_settings(capsys: pytest.CaptureFixture) -> None:
    assert "got 'data,'" in refusal(capsys, 'data_root=my', 'data,', 'new/')
    assert 'rackets' in refusal(capsys, 'a=(1,[2)')


def test_data_root_given_twice_or_in_vain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='both given'):
        read('--data-root', 'a', '--cfg-options', 'data_root=b')
    config = tmp_path / 'without.py'
    config.write_text('model = dict()')
    with pytest.raises(ValueError, match=r'without\.py has none'):
        common.read_config(str(config), None, 'a')


def test_a_root_that_is_no_text_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['mydata', 'new/'\] is no path.*--data-root"):
        move_data_root(Config(dict(data_root=['mydata', 'new/'])), 'data/')


@pytest.mark.parametrize(
    'tool, words',
    [
        ('analysis_tools/compare', []),
        ('analysis_tools/compare_trainings', []),
        ('analysis_tools/query_stats', ['--checkpoint', 'x']),
        ('analysis_tools/visualize_salience', ['x', '--split', 'val', '--out-dir', 'y']),
        ('analysis_tools/check_dataset', []),
        ('train', []),
        ('test', ['x']),
    ],
)
def test_every_tool_that_reads_data_has_the_option(tool: str, words: list[str]) -> None:
    spec = importlib.util.spec_from_file_location(
        f'options_of_{Path(tool).stem}', TOOLS / f'{tool}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    args = module.build_parser().parse_args(['config.py', *words, '--data-root', 'my data, new/'])
    assert args.data_root == 'my data, new/'


def test_a_config_of_another_folder_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / 'configs, mine' / 'my config.py'
    config.parent.mkdir()
    config.write_text(f'_base_ = {str(CONFIG)!r}')
    monkeypatch.chdir(tmp_path)
    cfg = common.read_config('configs, mine/my config.py', None, 'my data, new/')
    assert data_files(split_datasets(cfg, 'val')[0]).ann_file == 'my data, new/annotations/val.json'


def test_runs_of_a_comparison_get_the_option() -> None:
    words = settings.setting_words(['a=1'], 'my data, new/')
    assert words == ['--data-root=my data, new/', '--cfg-options', 'a=1']
    assert settings.setting_words([], None) == []
