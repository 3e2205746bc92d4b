"""A changed bit in a checkpoint is noticed, and the checksum is in nobody's way."""

import io
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmdet_salience.engine.durable_files import write_durably
from mmdet_salience.utils.checksums import COMMENT_SIZE, DamagedFileError, seal, verify
from mmdet_salience.utils.safe_load import CheckpointFileError, load_safely, trusting

FLIPS = 200


def checkpoint_bytes(side: int = 8) -> bytes:
    """What ``torch.save`` makes of a small checkpoint."""
    weights = {f'layer{i}': torch.arange(side * side).view(side, side) + i for i in range(4)}
    buffer = io.BytesIO()
    torch.save(dict(state_dict=weights, meta=dict(iter=3, note='a')), buffer)
    return buffer.getvalue()


def flipped(content: bytes, source: random.Random) -> bytes:
    """The content with one bit changed."""
    changed, place = bytearray(content), source.randrange(8 * len(content))
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints hold the same."""
    weights = [content['state_dict'] for content in (first, second)]
    return (
        first['meta'] == second['meta']
        and weights[0].keys() == weights[1].keys()
        and all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    )


def test_every_changed_bit_is_noticed(tmp_path: Path) -> None:
    path, source = tmp_path / 'iter_3.pth', random.Random(0)
    write_durably(path, checkpoint_bytes())
    whole = path.read_bytes()
    for _ in range(FLIPS):
        path.write_bytes(flipped(whole, source))
        with pytest.raises(CheckpointFileError):
            load_safely(path, mmap=True)
    path.write_bytes(whole)
    assert same(load_safely(path), torch.load(io.BytesIO(checkpoint_bytes())))


@pytest.mark.parametrize('place', range(-COMMENT_SIZE - 2, 0))
@pytest.mark.parametrize('bit', [0, 3, 5, 7])
def test_the_checksum_itself_is_covered(tmp_path: Path, place: int, bit: int) -> None:
    path = tmp_path / 'iter_3.pth'
    write_durably(path, checkpoint_bytes())
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CheckpointFileError):
        load_safely(path)


def test_checksums_of_pytorch_are_looked_at(tmp_path: Path) -> None:
    """In a file without a digest, what holds the content is covered."""
    path, source, noticed = tmp_path / 'other.pth', random.Random(0), 0
    whole = torch.load(io.BytesIO(checkpoint_bytes(64)))
    for _ in range(FLIPS):
        path.write_bytes(flipped(checkpoint_bytes(64), source))
        try:
            assert same(load_safely(path), whole)
        except CheckpointFileError:
            noticed += 1
    assert noticed > 0.9 * FLIPS


def test_files_without_checksums_pass(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        (tmp_path / 'none.pth').write_bytes(checkpoint_bytes())
    finally:
        torch.serialization.set_crc32_options(True)
    torch.save(dict(meta={}), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        assert 'meta' in load_safely(path)


def test_comments_of_others_are_no_damage(tmp_path: Path) -> None:
    """Of the size of ours, such as the name of a commit."""
    path = tmp_path / 'other.pth'
    path.write_bytes(checkpoint_bytes())
    with zipfile.ZipFile(path, 'a') as archive:
        archive.comment = b'0123456789' * (COMMENT_SIZE // 10)
    verify(path)
    load_safely(path)


def test_everything_else_reads_the_file(tmp_path: Path) -> None:
    """Under any name, in any folder, by any way."""
    write_durably(tmp_path / 'iter_3.pth', checkpoint_bytes())
    (tmp_path / 'other').mkdir()
    path = Path(shutil.copy(tmp_path / 'iter_3.pth', tmp_path / 'other' / 'renamed.pth'))
    whole = torch.load(io.BytesIO(checkpoint_bytes()))
    for content in (
        torch.load(path),
        torch.load(path, mmap=True),
        torch.load(path, weights_only=False),
        CheckpointLoader.load_checkpoint(str(path)),
    ):
        assert same(content, whole)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    verify(path)


def test_trusted_files_are_looked_at_too(tmp_path: Path) -> None:
    path = tmp_path / 'iter_3.pth'
    content = bytearray(checkpoint_bytes(64))
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match='bytes have changed'):
        verify(path)
    with trusting(), pytest.raises(CheckpointFileError, match=r'iter_3\.pth is damaged: .*Copy'):
        load_safely(path)


@pytest.mark.parametrize('content', [b'', b'work/iter_3.pth', b'PK\x05\x06', bytes(40)])
def test_other_files_are_left_alone(content: bytes) -> None:
    assert b''.join(seal(content)) == content
    sealed = b''.join(seal(checkpoint_bytes()))
    assert b''.join(seal(sealed)) == sealed
