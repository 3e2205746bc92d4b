"""Published checkpoints: what stays, the name by content, and that nothing is overwritten."""

import hashlib
import zipfile
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine.hooks import EMAHook
from torch import nn

from mmdet_salience.utils.publishing import (
    file_sha256,
    hashed_path,
    last_weights,
    plain_stem,
    read_weights_only,
    resolve_target,
    save_hashed,
    strip_checkpoint,
)


def trained() -> dict:
    """A checkpoint of a training run."""
    meta = dict(
        dataset_meta=dict(classes=('pit',)),
        cfg='model = dict()',
        epoch=12,
        time='20260101_000000',
        hook_msgs=dict(best_ckpt='somewhere/best.pth'),
        mmengine_version='0.10.7',
    )
    state = {'a.weight': torch.ones(2)}
    return dict(meta=meta, state_dict=state, optimizer={}, param_schedulers=[], message_hub={})


def test_hash_of_a_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    (tmp_path / 'file').write_bytes(content)
    assert file_sha256(tmp_path / 'file', chunk_size=100) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize('name', ['zoo/model.pth', 'zoo/model'])
def test_name_with_hash(name: str) -> None:
    assert hashed_path(Path(name), '0123456789abcdef') == Path('zoo/model-01234567.pth')


def test_only_the_hash_of_the_content_leaves_the_stem(tmp_path: Path) -> None:
    path = save_hashed(trained(), tmp_path / 'model.pth')
    assert path.stem != 'model'
    assert plain_stem(path) == 'model'
    dated = path.rename(tmp_path / 'model-20260101.pth')
    assert plain_stem(dated) == 'model-20260101'


def test_target(tmp_path: Path) -> None:
    source = tmp_path / 'epoch_12.pth'
    assert resolve_target(None, source, 'stem') == tmp_path / 'stem.pth'
    assert resolve_target(tmp_path, source, 'stem') == tmp_path / 'stem.pth'
    assert resolve_target(tmp_path / 'own.pth', source, 'stem') == tmp_path / 'own.pth'
    with pytest.raises(FileNotFoundError, match=r'no folder .*none for own\.pth; make it'):
        resolve_target(tmp_path / 'none' / 'own.pth', source, 'stem')


def test_saved_by_content_and_never_over_a_file(tmp_path: Path) -> None:
    (tmp_path / 'a').mkdir()
    path = save_hashed(trained(), tmp_path / 'model.pth')
    assert path.name == f'model-{file_sha256(path)[:8]}.pth'
    assert torch.load(path, weights_only=True)['meta'] == trained()['meta']
    again = save_hashed(trained(), tmp_path / 'a' / 'other.pth')
    assert file_sha256(again) == file_sha256(path), 'neither place nor name is in the file'
    stamp = path.stat().st_mtime_ns
    for patch in (nullcontext(), mock.patch('os.link', side_effect=OSError)):  # no hard links
        with patch, pytest.raises(FileExistsError, match=r'model-.* is not overwritten'):
            save_hashed(trained(), tmp_path / 'model.pth')
    assert path.stat().st_mtime_ns == stamp
    assert sorted(x.name for x in tmp_path.iterdir()) == ['a', path.name]


def test_saved_without_hard_links(tmp_path: Path) -> None:
    with mock.patch('os.link', side_effect=OSError):
        path = save_hashed(trained(), tmp_path / 'model.pth')
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with (
        mock.patch('torch.save', side_effect=OSError('disk full')),
        pytest.raises(OSError, match='disk full'),
    ):
        save_hashed(trained(), tmp_path / 'model.pth')
    assert not list(tmp_path.iterdir())


def test_strip_keeps_what_describes_the_weights() -> None:
    checkpoint = trained()
    stripped = strip_checkpoint(checkpoint)
    assert set(stripped) == {'meta', 'state_dict'}
    assert set(stripped['meta']) == {'dataset_meta', 'cfg', 'epoch', 'mmengine_version'}
    assert 'optimizer' in checkpoint and 'time' in checkpoint['meta'], 'the original stays'
    with pytest.raises(ValueError, match='no checkpoint of MMEngine'):
        strip_checkpoint({'model': {}})
    with pytest.raises(ValueError, match='no moving average'):
        strip_checkpoint(checkpoint, averaged=False)


def test_moving_average_as_mmengine_saves_it() -> None:
    """The hook itself swaps: the average is what loads."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    runner = mock.MagicMock(model=model, epoch=0, iter=0)
    hook = EMAHook(momentum=0.5)
    hook.before_run(runner)
    hook.after_train_iter(runner, 0)
    nn.init.constant_(model.weight, 3.0)
    hook.after_train_iter(runner, 1)  # the average of 1 and 3
    checkpoint = dict(trained(), state_dict=model.state_dict())
    hook.before_save_checkpoint(runner, checkpoint)
    assert strip_checkpoint(checkpoint)['state_dict']['weight'].item() == 2
    last = strip_checkpoint(checkpoint, averaged=False)['state_dict']
    assert {name: value.item() for name, value in last.items()} == {'weight': 3}
    assert last_weights(checkpoint) == last


@pytest.mark.parametrize('legacy', [False, True])
def test_both_formats_are_read(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / 'file.pth'
    torch.save(trained(), path, _use_new_zipfile_serialization=not legacy)
    assert zipfile.is_zipfile(path) is not legacy
    assert read_weights_only(path)['state_dict']['a.weight'].tolist() == [1, 1]


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / 'file.pth'
    with pytest.raises(FileNotFoundError, match=r'no checkpoint .*file\.pth'):
        read_weights_only(path)
    torch.save(trained(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b'<html>not found</html>', b''):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'file\.pth cannot be read .*download it again'):
            read_weights_only(path)
    torch.save({'model': nn.Linear(1, 1)}, path)
    with pytest.raises(ValueError, match='save its state dict alone'):
        read_weights_only(path)
    torch.save([1], path)
    with pytest.raises(ValueError, match='holds a list'):
        read_weights_only(path)
