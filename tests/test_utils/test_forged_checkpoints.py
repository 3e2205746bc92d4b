"""Pickles that name only what is allowed, but with arguments that nobody writes by accident."""

import pickle
import pickletools
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer

from mmdet_salience.utils.safe_load import CheckpointFileError, load_safely

RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
HUGE = 1 << 50


class Forged:
    """Something that is pickled as any call.

    Args:
        function: What is called.
        arguments: With what.
        state: What it is given then, if any.
    """

    def __init__(self, function: Callable, arguments: Sequence = (), state: Any = None) -> None:
        self.reduced = (function, tuple(arguments), state)

    def __reduce__(self) -> tuple:
        """Call it."""
        return self.reduced


def dtype(code: str, *state: Any) -> Forged:
    """A dtype with any state."""
    return Forged(np.dtype, (code, False, True), (3, *state))


def array(kind: Any, shape: Sequence[int], content: Any) -> Forged:
    """An array with any state."""
    return Forged(RECONSTRUCT, (np.ndarray, (0,), b'b'), (1, shape, kind, False, content))


def tensor(offset: Any = 0, size: Any = (2,), stride: Any = (1,), hooks: Any = None) -> Forged:
    """A tensor of any geometry over two numbers."""
    storage = torch.ones(2).storage()
    arguments = (storage, offset, size, stride, False, OrderedDict() if hooks is None else hooks)
    return Forged(torch._utils._rebuild_tensor_v2, arguments)


def small_tensor(kind: Any, size: Any, hooks: Any = None) -> Forged:
    """A tensor of a type without storages of its own, over two bytes."""
    storage = torch.ones(2, dtype=torch.uint8).untyped_storage()
    arguments = (storage, 0, size, (1,), False, OrderedDict() if hooks is None else hooks, kind)
    return Forged(torch._utils._rebuild_tensor_v3, arguments)


def nested(depth: int) -> tuple:
    """A tuple in a tuple in a tuple."""
    found: tuple = ()
    for _ in range(depth):
        found = (found,)
    return found


FLAGLESS = dtype('O8', '|', None, None, None, -1, -1, 0)
FLOAT = np.dtype('f4')
STORAGE = torch.ones(2).storage()

FORGED = dict(
    array_of_addresses=array(FLAGLESS, (1,), b'\x01' * 8),
    scalar_of_address=Forged(SCALAR, (FLAGLESS, b'\x01' * 8)),
    object_array=np.array([1, 'a'], dtype=object),
    object_dtype=np.dtype(object),
    structure=np.zeros(1, dtype=[('a', object), ('b', 'i4')]),
    structure_of_objects=dtype('V8', '|', None, ('a',), {'a': (np.dtype('O'), 0)}, 8, 1, 0),
    text_dtype_of_another_size=array(dtype('U1', '<', None, None, None, HUGE, 4, 8), (1,), b'abcd'),
    flags_of_objects=dtype('f4', '<', None, None, None, -1, -1, 63),
    parent_dtype=dtype('f4', '<', (np.dtype('O'), (2,)), None, None, -1, -1, 0),
    dtype_metadata=Forged(np.dtype, ('f4',), (4, '<', None, None, None, -1, -1, 0, {})),
    date=np.array(['2020-01-01'], dtype='M8[D]'),
    array_larger_than_its_bytes=array(FLOAT, (1000,), b'abcd'),
    array_of_negative_shape=array(FLOAT, (-1, -1), b'abcd'),
    array_of_huge_shape=array(FLOAT, (HUGE, HUGE, 0), b''),
    scalar_of_few_bytes=Forged(SCALAR, (np.dtype('f8'), b'ab')),
    tensor_beyond_its_storage=tensor(size=(1000,)),
    tensor_before_its_storage=tensor(offset=-1),
    tensor_after_its_storage=tensor(offset=2),
    tensor_of_backward_steps=tensor(offset=1, stride=(-1,)),
    tensor_of_overflowing_size=tensor(size=(HUGE, HUGE), stride=(HUGE, HUGE)),
    tensor_repeated_without_end=tensor(size=(HUGE,), stride=(0,)),
    tensor_with_hooks=tensor(hooks=OrderedDict(a=HistoryBuffer)),
    small_tensor_beyond_its_storage=small_tensor(torch.uint16, (2,)),
    small_tensor_repeated_without_end=small_tensor(torch.uint16, (HUGE,)),
    small_tensor_of_no_numbers=small_tensor(torch.qint8, (2,)),
    small_tensor_of_text=small_tensor('uint16', (1,)),
    small_tensor_with_hooks=small_tensor(torch.uint16, (1,), OrderedDict(a=HistoryBuffer)),
    tensor_of_two_ranks=tensor(size=(1, 1), stride=(1,)),
    meta_tensor=torch.ones(2, device='meta'),
    sparse_tensor=torch.ones(2).to_sparse(),
    quantised_tensor=torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    nested_tensor=Forged(torch._utils._rebuild_nested_tensor, [torch.ones(2)] * 4),
    tensor_with_attributes=Forged(
        torch._tensor._rebuild_from_type_v2,
        (torch._utils._rebuild_tensor_v2, torch.Tensor, (STORAGE, 0, (2,), (1,)), {}),
    ),
    parameter_of_no_tensor=Forged(torch._utils._rebuild_parameter, ([], False, OrderedDict())),
    negative_size=Forged(torch.Size, ((-1,),)),
    bytes_by_number=Forged(bytearray, (HUGE,)),
    codec=Forged(pickle.codecs.encode, ('a', 'idna')),
    deep_key={nested(10): 1},
    deep_element=Forged(set, ([nested(10)],)),
    deep_frozen_element=Forged(frozenset, ([nested(10)],)),
    deep_entry=Forged(OrderedDict, ([(nested(10), 1)],)),
    counted_text=Forged(Counter, ('text',)),
    hidden_items=Forged(OrderedDict, (), dict(items=1)),
    slice_of_objects=slice([], None),
)


@pytest.mark.parametrize('name', FORGED)
@pytest.mark.parametrize('legacy', [False, True])
def test_forged_values_are_refused(tmp_path: Path, name: str, legacy: bool) -> None:
    path = tmp_path / 'a.pth'
    torch.save({'a': FORGED[name]}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointFileError, match=r'a\.pth'):
        load_safely(path)


def rewrite(source: Path, target: Path, pickled: bytes, **options: Any) -> None:
    """Copy a checkpoint in zip format with another pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w', **options) as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith('data.pkl') else old.read(name))


def read_pickle(path: Path) -> bytes:
    """The pickle in a checkpoint."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if 'data.pkl' in name))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A checkpoint of four numbers."""
    torch.save({'a': torch.ones(4)}, tmp_path / 'plain.pth')
    return tmp_path / 'plain.pth'


def assert_refused(path: Path, reason: str) -> None:
    """Check that a checkpoint is refused, and why."""
    for mmap in (False, True):
        with pytest.raises(CheckpointFileError, match=reason):
            load_safely(path, mmap=mmap)


@pytest.mark.parametrize(
    'old, new, reason',
    [
        (b'K\x04t', b'J\x00\x00\x10\x00t', 'storage 0 has 16 bytes, and not 4194304'),
        (b'K\x04t', b'K\x03t', 'storage 0 has 16 bytes, and not 12'),
        (b'K\x04t', b'J\xff\xff\xff\xfft', 'storage 0 has 16 bytes, and not -4'),
        (b'FloatStorage', b'DoubleStorage', 'storage 0 has 16 bytes, and not 32'),
        (b'FloatStorage', b'QInt8Storage', 'quantised storage'),
        (b'\x01\x00\x00\x000q', b'\x01\x00\x00\x009q', 'storage 9 has -1 bytes, and not 16'),
        (b'storage', b'modules', 'something else than a storage'),
    ],
)
def test_references_to_storages_are_checked(
    tmp_path: Path, plain: Path, old: bytes, new: bytes, reason: str
) -> None:
    pickled = read_pickle(plain)
    assert old in pickled
    rewrite(plain, tmp_path / 'a.pth', pickled.replace(old, new, 1))
    assert_refused(tmp_path / 'a.pth', reason)


def test_compressed_and_ambiguous_files_are_refused(tmp_path: Path, plain: Path) -> None:
    pickled = read_pickle(plain)
    rewrite(plain, tmp_path / 'a.pth', pickled)
    assert load_safely(tmp_path / 'a.pth')['a'].tolist() == [1] * 4
    rewrite(plain, tmp_path / 'b.pth', pickled, compression=zipfile.ZIP_DEFLATED)
    assert_refused(tmp_path / 'b.pth', 'compressed')
    with zipfile.ZipFile(tmp_path / 'a.pth', 'a') as archive, pytest.warns(UserWarning):
        archive.writestr('plain/data/0', bytes(16))
    assert_refused(tmp_path / 'a.pth', 'ambiguous')


def legacy_pickles(path: Path) -> list[bytes]:
    """The pickles at the start of a checkpoint in the older format."""
    content = path.read_bytes()
    found = []
    for _ in range(5):
        end = next(place for code, _, place in pickletools.genops(content) if code.name == 'STOP')
        found.append(content[: end + 1])
        content = content[end + 1 :]
    return [*found, content]


def test_storages_without_content_are_refused(tmp_path: Path) -> None:
    """PyTorch leaves whatever is in the memory in their place."""
    path = tmp_path / 'a.pth'
    torch.save({'a': torch.ones(4)}, path, _use_new_zipfile_serialization=False)
    *start, _, content = legacy_pickles(path)
    path.write_bytes(b''.join([*start, pickle.dumps([], 2), content]))
    with pytest.raises(CheckpointFileError, match='storages are missing'):
        load_safely(path)


@pytest.mark.parametrize(
    'code',
    [
        b'cmmengine.logging.history_buffer\nHistoryBuffer\n(N}U\x04meanK\x01stb.',  # its class
        b'ctorch\nfloat32\n}U\x01aK\x01sb.',
        b'ctorch\nfloat32\n)R.',
        b'cnumpy\nndarray\n(I9\ntR.',
        b'cnumpy\nndarray\n)\x81.',
        b'cmmengine.logging.history_buffer\nHistoryBuffer\n)R.',
        b'\x80\x02]K\x01K\x01s.',
        b'\x80\x02}K\x01a.',
        b'(icollections\nOrderedDict\n.',
        b'\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.',  # a bytearray of 2^40
        # A history whose mean, shared by all histories, is the maximum.
        b'\x80\x02cmmengine.logging.history_buffer\nHistoryBuffer\nq\x01)\x81}U\x12statistics_methods'
        b'}U\x04meancbuiltins\ngetattr\nh\x01U\x03max\x86Rssb.',
        b'P0\n.',
        b'\x82\x01.',
    ],
)
def test_forged_operations_are_refused(tmp_path: Path, plain: Path, code: bytes) -> None:
    mean = HistoryBuffer.mean
    rewrite(plain, tmp_path / 'a.pth', code)
    assert_refused(tmp_path / 'a.pth', 'holds more than weights')
    assert HistoryBuffer.mean is mean


def test_a_memo_of_any_number_takes_no_memory(tmp_path: Path, plain: Path) -> None:
    """The standard library's unpickler in C makes a table of that length."""
    rewrite(plain, tmp_path / 'a.pth', b'\x80\x02]r\xff\xff\xff\xff.')
    assert load_safely(tmp_path / 'a.pth') == []


def test_pytorchs_own_switch_is_named(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(CheckpointFileError, match=r'TORCH_FORCE_WEIGHTS_ONLY_LOAD.*unset it'):
        load_safely(plain)


def test_messages_send_nothing_to_the_terminal(tmp_path: Path, plain: Path) -> None:
    rewrite(plain, tmp_path / 'a.pth', b'cos\n\x1b[2Jsystem' + b'x' * 1000 + b'\n.')
    with pytest.raises(CheckpointFileError, match=r'\(os\.\[2Jsystemx+\)') as error:
        load_safely(tmp_path / 'a.pth')
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
