"""Resumed trainings equal those that were not stopped, and begin at the right checkpoint."""

import math
import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from helpers import Evil
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from test_stop_signals import send
from torch import Tensor
from toy_training import (
    BATCH,
    Crash,
    OtherModel,
    Recorder,
    ToyMetric,
    crash,
    data_settings,
    make_runner,
    read_log,
    run,
)

from mmdet_salience.engine.hooks import DurableCheckpointHook
from mmdet_salience.engine.loops import ResumableIterBasedTrainLoop
from mmdet_salience.engine.resume import has_candidates
from mmdet_salience.utils.safe_load import CheckpointFileError, load_safely

WORKERS = [
    dict(),
    dict(workers=2),
    dict(workers=2, persistent=True),
]


def flatten(value: Any, name: str = '') -> dict[str, Any]:
    """Tensors and numbers of nested state dicts by their names."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {name: value}
    return {k: v for key, part in items for k, v in flatten(part, f'{name}.{key}').items()}


def assert_same_state(first: Path, second: Path) -> None:
    """Compare all that two checkpoints say about weights, optimizer, schedules and averages."""
    states = [load_safely(path) for path in (first, second)]
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        ours, theirs = (flatten(state[key]) for state in states)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            same = torch.equal if isinstance(value, Tensor) else lambda a, b: a == b
            assert same(value, theirs[name]), f'{key}{name}'
    ours, theirs = (state['message_hub']['log_scalars']['train/loss'] for state in states)
    assert ours.data[0].tolist() == theirs.data[0].tolist()


def assert_continues(whole: Recorder, rest: Recorder, first: int) -> None:
    """Compare a resumed run with one that was not stopped."""
    assert sorted(rest.losses) == list(range(first, max(whole.losses) + 1))
    assert rest.losses == {step: whole.losses[step] for step in rest.losses}
    assert rest.rates == {step: whole.rates[step] for step in rest.rates}
    assert len(set(whole.losses.values())) == len(whole.losses)


@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize('data', WORKERS)
def test_resumed_run_equals_the_whole(tmp_path: Path, by_epoch: bool, data: dict) -> None:
    settings = dict(by_epoch=by_epoch, data=data)
    whole = run(tmp_path / 'whole', **settings)
    run(tmp_path / 'work', at=8, action=crash, **settings)
    rest = run(tmp_path / 'work', resume='auto', **settings)
    assert_continues(whole, rest, 6 if by_epoch else 7)
    name = 'epoch_3.pth' if by_epoch else 'iter_12.pth'
    assert_same_state(tmp_path / 'whole' / name, tmp_path / 'work' / name)


def test_losses_do_not_depend_on_workers(tmp_path: Path) -> None:
    """Nor does it matter with how many workers a run goes on."""
    runs = [run(tmp_path / str(i), data=data).losses for i, data in enumerate(WORKERS)]
    assert runs[0] == runs[1] == runs[2]
    run(tmp_path / 'work', at=8, action=crash, data=WORKERS[2])
    rest = run(tmp_path / 'work', resume='auto')
    assert rest.losses == {step: runs[0][step] for step in range(7, 13)}


@pytest.mark.parametrize('by_epoch', [False, True])
def test_random_seed_is_kept(tmp_path: Path, by_epoch: bool) -> None:
    """Without a seed in the config, MMEngine would draw another order of images."""
    settings = dict(seed=None, by_epoch=by_epoch)
    first = run(tmp_path, at=8, action=crash, **settings)
    rest = run(tmp_path, resume='auto', **settings)
    shared = first.losses.keys() & rest.losses.keys()
    assert {7, 8} <= shared
    assert all(first.losses[step] == rest.losses[step] for step in shared)


@pytest.mark.parametrize('batch_sampler', [None, dict(type='AspectRatioBatchSampler')])
def test_earlier_images_are_not_loaded_again(tmp_path: Path, batch_sampler: dict | None) -> None:
    data = dict(batch_sampler=batch_sampler)
    whole = run(tmp_path / 'whole', data=data)
    run(tmp_path / 'work', at=8, action=crash, data=data)
    rest = run(tmp_path / 'work', resume='auto', data=data)
    assert_continues(whole, rest, 7)
    loaded = [recorder.runner.train_dataloader.dataset.loaded for recorder in (whole, rest)]
    assert len(loaded[0]) == 12 * BATCH
    assert loaded[1] == loaded[0][6 * BATCH :]


@pytest.mark.parametrize('by_epoch', [False, True])
def test_validation_that_was_cut_off_is_done_again(tmp_path: Path, by_epoch: bool) -> None:
    """Its checkpoint is of the moment before, and the best checkpoint would be missed."""
    settings = dict(by_epoch=by_epoch, checkpoint=dict(interval=1 if by_epoch else 4))
    whole = run(tmp_path / 'whole', **settings)
    with mock.patch.object(
        ToyMetric, 'compute_metrics', autospec=True, side_effect=[dict(error=1e3), Crash]
    ):
        first = run(tmp_path / 'work', **settings)
    rest = run(tmp_path / 'work', resume='auto', **settings)
    assert first.validated + rest.validated == whole.validated
    assert_continues(whole, rest, rest.validated[0] + 1)


def test_other_data_is_reported(tmp_path: Path) -> None:
    run(tmp_path, at=8, action=crash)
    run(tmp_path, resume='auto', data=dict(batch_size=5))
    assert 'batch_size 2, now 5' in read_log(tmp_path)


@pytest.mark.parametrize('epochs, first, last', [(3, 8, 9), (1, 4, 5)])
def test_epochs_of_less_data_are_resumed_twice(
    tmp_path: Path, epochs: int, first: int, last: int
) -> None:
    """The steps of all runs are then more than the epochs have now."""
    for at, batch_size in ((first, 2), (last, 10), (-1, 10)):  # 5 steps an epoch, then 1
        recorder = Recorder(at, send(signal.SIGTERM))
        settings = dict(by_epoch=True, data=dict(batch_size=batch_size))
        runner = make_runner(tmp_path, recorder, resume='auto', **settings)
        runner._train_loop.update(max_epochs=epochs)
        with suppress(SystemExit):
            runner.train()
    assert runner.epoch == runner.max_iters == epochs
    assert min(recorder.losses) == last + 1 > runner.max_iters


@pytest.fixture(scope='module')
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folder of a run that ended after step 8; its last checkpoint is of step 6."""
    folder = tmp_path_factory.mktemp('killed')
    run(folder, at=8, action=crash)
    return folder


@pytest.fixture
def folder(killed: Path, tmp_path: Path) -> Path:
    """A copy of it, with the times of the files."""
    copy = tmp_path / 'work'
    shutil.copytree(killed, copy)
    note = copy / 'last_checkpoint'
    note.write_text(note.read_text().replace(str(killed), str(copy)))
    return copy


def first_step(folder: Path, **settings: Any) -> int:
    """Step at which a resumed run begins."""
    return min(run(folder, resume='auto', **settings).losses)


def training_checkpoint(folder: Path, **changes: Any) -> dict:
    """The last checkpoint, with changes; None removes a key."""
    content = {**load_safely(folder / 'iter_6.pth'), **changes}
    return {key: value for key, value in content.items() if value is not None}


def spoil(kind: str, folder: Path) -> Path:
    """Write a newer file that is no checkpoint of the run, and note it as the last one."""
    path = folder / 'iter_9.pth'
    whole = (folder / 'iter_6.pth').read_bytes()
    other = {**load_safely(folder / 'iter_6.pth')['state_dict'], 'more.weight': torch.ones(2, 2)}
    contents = {
        'empty': b'',
        'truncated': whole[: len(whole) // 2],
        'end lost': whole[:-1],
        'bit': whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:],
        'foreign': b'<html>not found</html>',
        'list': [1, 2],
        'weights': {'layer.weight': torch.ones(1)},
        'no optimizer': training_checkpoint(folder, optimizer=None),
        'no progress': training_checkpoint(folder, meta={}),
        'other model': training_checkpoint(folder, state_dict=other),
    }
    if isinstance(contents[kind], bytes):
        path.write_bytes(contents[kind])
    else:
        torch.save(contents[kind], path)
    (folder / 'last_checkpoint').write_text(str(path))
    return path


SPOILED = {
    'empty': 'cannot be read as a checkpoint: 0 bytes, empty',
    'truncated': 'cannot be read as a checkpoint',
    'end lost': 'is damaged: its checksum does not match',
    'bit': 'is damaged: its checksum does not match',
    'foreign': 'cannot be read as a checkpoint: 22 bytes, damaged or something else',
    'list': 'holds a list',
    'weights': 'is no checkpoint of a training: it has no meta, state_dict, message_hub, optimizer',
    'no optimizer': 'is no checkpoint of a training: it has no optimizer',
    'no progress': 'is no checkpoint of a training: it has no epoch and iteration',
    'other model': 'is of another model, in 1 weights (more.weight: 2×2 in the file, nothing in',
}


@pytest.mark.parametrize('kind', SPOILED)
def test_other_files_are_named_and_the_one_before_is_taken(folder: Path, kind: str) -> None:
    path = spoil(kind, folder)
    with pytest.raises(CheckpointFileError, match=re.escape(f'{path} {SPOILED[kind]}')):
        make_runner(folder, resume=True, load_from=str(path)).choose_resume()
    runner = make_runner(folder, resume='auto')
    runner.choose_resume()
    assert runner._load_from == str(folder / 'iter_6.pth')
    assert f'Not resumed: {path} {SPOILED[kind]}' in read_log(folder)


def changed(folder: Path, key: str, value: Any) -> dict:
    """The last checkpoint with another value at a place such as ``meta.iter``."""
    content = training_checkpoint(folder)
    *parents, last = key.split('.')
    part = content
    for parent in parents:
        part = part[int(parent) if isinstance(part, list) else parent]
    part[last] = value
    return content


INFO = 'message_hub.runtime_info'
NONSENSE = [
    ('meta.iter', -5, 'iteration -5'),
    ('meta.iter', 6.0, 'iteration 6.0'),
    ('meta.iter', True, 'iteration True'),
    ('meta.iter', math.nan, 'iteration nan'),
    ('meta.iter', '6', "iteration '6'"),
    ('meta.iter', 13, '13 of max_iters=12'),
    ('meta.epoch', 1e9, 'epoch 1000000000.0'),
    ('meta.epoch', 10**9, 'epoch 1000000000 after 6 iterations'),
    ('meta.epoch', 2, '2 of max_epochs=1'),
    ('meta.epoch', None, 'epoch None'),
    ('meta.seed', -1, 'seed -1'),
    ('meta.seed', 2**32, 'seed 4294967296'),
    ('meta.seed', 'x', "seed 'x'"),
    (INFO, [], 'runtime_info []'),
    (f'{INFO}.keep_ckpt_ids', ['../other/1'], "keep_ckpt_ids ['../other/1']"),
    (f'{INFO}.keep_ckpt_ids', 3, 'keep_ckpt_ids 3'),
    (f'{INFO}.retired_checkpoints', [7], 'retired_checkpoints [7]'),
    (f'{INFO}.validated_at', 'never', "validated_at 'never'"),
    (f'{INFO}.data_stream', 4, 'data_stream 4'),
    (f'{INFO}.best_score', math.nan, 'best_score nan'),
    (f'{INFO}.best_score_error', 'x', "best_score_error 'x'"),
    (f'{INFO}.best_ckpt', 4, 'best_ckpt 4'),
    ('param_schedulers.0.base_values', [math.nan], 'NaN among the numbers of param_schedulers'),
    ('optimizer.param_groups.0.lr', math.nan, 'NaN among the numbers of optimizer'),
]


@pytest.mark.parametrize('key, value, words', NONSENSE)
def test_numbers_that_cannot_be(folder: Path, key: str, value: Any, words: str) -> None:
    """They are named, and the checkpoint before is taken."""
    path = folder / 'iter_9.pth'
    torch.save(changed(folder, key, value), path)
    text = f'{path} cannot be resumed: it says {words}, which cannot be'
    with pytest.raises(CheckpointFileError, match=re.escape(text)):
        make_runner(folder, resume=True, load_from=str(path)).train()
    assert first_step(folder) == 7
    assert f'Not resumed: {text}' in read_log(folder)


@pytest.mark.parametrize(
    'key, value',
    [
        ('optimizer.param_groups', []),
        ('optimizer.state', 3),
        ('param_schedulers', 3),
        ('param_schedulers', [1, 2]),
    ],
)
def test_what_the_optimizer_cannot_take_is_a_sentence(folder: Path, key: str, value: Any) -> None:
    path = folder / 'iter_9.pth'
    torch.save(changed(folder, key, value), path)
    with pytest.raises(
        CheckpointFileError, match=r'iter_9\.pth cannot be resumed with this config'
    ):
        make_runner(folder, resume=True, load_from=str(path)).train()


@pytest.mark.parametrize('name', ['val', 'test', 'resume'])
def test_evaluations_can_resume(folder: Path, name: str) -> None:
    """As with the dumped config of a resumed run; there are only configs of the optimizer."""
    path = folder / 'iter_6.pth'
    val = data_settings()
    test = {f'test_{part}': val[f'val_{part}'] for part in ('dataloader', 'cfg', 'evaluator')}
    # MMEngine's EMAHook gives the model other weights, and is not ready for a lone resume().
    runner = make_runner(folder, resume=True, load_from=str(path), ema=Recorder(), **test)
    if name == 'resume':
        runner.resume(str(path))
    else:
        assert getattr(runner, name)().keys() == {'error'}
    assert runner.iter == 6
    weights = load_safely(path)['state_dict']['layer.weight']
    assert torch.equal(runner.model.layer.weight, weights)
    assert 'resumed checkpoint' not in read_log(folder)


def test_weights_are_loaded_after_a_resume_and_not_resumed(folder: Path) -> None:
    path = folder / 'published.pth'
    torch.save(dict(state_dict=load_safely(folder / 'iter_3.pth')['state_dict']), path)
    runner = run(folder, resume='auto').runner
    assert 'state_dict' in runner.load_checkpoint(str(path))
    weights = load_safely(path)['state_dict']['layer.weight']
    assert torch.equal(runner.model.layer.weight, weights)
    words = f'{path} is no checkpoint of a training: it has no meta, message_hub'
    with pytest.raises(CheckpointFileError, match=re.escape(words)):
        runner.resume(str(path))


@pytest.mark.parametrize('target', ['nowhere', 'iter_9.pth', 'iter_99.pth'])
def test_broken_links_cost_only_themselves(folder: Path, target: str) -> None:
    """Links to nothing, to themselves and in a circle."""
    (folder / 'iter_9.pth').symlink_to(target)
    (folder / 'iter_99.pth').symlink_to('iter_9.pth')
    assert has_candidates(folder)
    assert first_step(folder) == 7


def test_broken_links_alone_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / 'pretrained.pth').symlink_to('nowhere')
    (tmp_path / 'last_checkpoint').symlink_to('last_checkpoint')
    assert not has_candidates(tmp_path)
    assert first_step(tmp_path) == 1
    assert 'pretrained.pth leads to no checkpoint' in read_log(tmp_path)


@pytest.mark.parametrize('note', ['\0', 'x' * 5000, 'a/' * 3000, '/root/none/iter_3.pth'])
def test_a_note_may_say_anything(folder: Path, note: str) -> None:
    (folder / 'last_checkpoint').write_text(note)
    assert first_step(folder) == 7


def test_nothing_usable_is_an_error(folder: Path) -> None:
    """Starting anew would overwrite what somebody may still want to look at."""
    for name in ('iter_3.pth', 'iter_4.pth', 'iter_6.pth'):
        (folder / name).write_bytes(b'')
    with pytest.raises(CheckpointFileError, match=r'none of the 3 checkpoints of .*Leave out'):
        make_runner(folder, resume='auto').train()


def test_whole_checkpoints_of_another_model_are_an_error(folder: Path) -> None:
    with pytest.raises(CheckpointFileError, match=r'none of the 3 checkpoints'):
        make_runner(folder, model=OtherModel, resume='auto').train()
    assert 'more.weight: nothing in the file, 2×2 in the model' in read_log(folder)


def test_nothing_at_all_is_a_start(tmp_path: Path) -> None:
    recorder = run(tmp_path, resume='auto', log_level='INFO')
    assert min(recorder.losses) == 1
    assert 'There is no checkpoint' in read_log(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        make_runner(tmp_path, resume=True, load_from=str(tmp_path / 'none.pth')).train()


@pytest.mark.parametrize('note', ['', 'iter_3.pth', 'gone.pth', None])
def test_newest_file_counts(folder: Path, note: str | None) -> None:
    """A run may be killed between a checkpoint and the note of its name."""
    hint = folder / 'last_checkpoint'
    if note is None:
        hint.unlink()
    else:
        hint.write_text(note and str(folder / note))
    assert first_step(folder) == 7


def test_note_counts_in_a_copied_folder(folder: Path) -> None:
    """Copying may change the order of the times."""
    os.utime(folder / 'iter_3.pth', (2e9, 2e9))
    assert first_step(folder) == 7


def test_an_earlier_run_in_the_folder_does_not_count(folder: Path) -> None:
    content = training_checkpoint(folder, meta=dict(epoch=0, iter=11, seed=7))
    torch.save(content, folder / 'iter_11.pth')
    os.utime(folder / 'iter_11.pth', (1e9, 1e9))
    assert first_step(folder) == 7


def test_resume_does_not_run_the_config_in_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    """MMEngine would read meta.config as Python."""
    proof = tmp_path / 'proof'
    path = folder / 'iter_6.pth'
    content = load_safely(path)
    content['meta']['config'] = f'open({str(proof)!r}, "w")'
    torch.save(content, path)
    assert first_step(folder) == 7
    assert not proof.exists()


def test_configs_may_name_classes(tmp_path: Path) -> None:
    """As those of MMEngine's new style do."""
    runner = make_runner(tmp_path, checkpoint=dict(type=CheckpointHook))
    assert any(isinstance(hook, DurableCheckpointHook) for hook in runner.hooks)
    for loop in (
        dict(type=IterBasedTrainLoop, max_iters=1),
        dict(type='mmengine.IterBasedTrainLoop', max_iters=1),
        dict(by_epoch=False, max_iters=1),
    ):
        assert isinstance(runner.build_train_loop(loop), ResumableIterBasedTrainLoop)
    built = EpochBasedTrainLoop(runner, runner.train_dataloader, max_epochs=1)
    assert runner.build_train_loop(built) is built


@pytest.mark.parametrize('resume', [True, False])
def test_checkpoints_run_nothing_unless_the_config_trusts_them(folder: Path, resume: bool) -> None:
    proof, path = folder / 'proof', folder / 'evil.pth'
    torch.save(training_checkpoint(folder, note=Evil(proof)), path)
    with pytest.raises(CheckpointFileError, match=r'could run code.*trust_checkpoints=True'):
        make_runner(folder, resume=resume, load_from=str(path)).train()
    assert not proof.exists()
    trust = Config(dict(trust_checkpoints=True))
    make_runner(folder, resume=resume, load_from=str(path), cfg=trust).train()
    assert proof.exists()
