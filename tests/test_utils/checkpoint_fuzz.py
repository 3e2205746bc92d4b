"""Edits checkpoints at random and loads them; run as a program, which may die of what it finds.

Example:
    python tests/test_utils/checkpoint_fuzz.py FOLDER --examples 100000 --seed 1
"""

import argparse
import faulthandler
import io
import json
import pickle
import pickletools
import resource
import sys
import warnings
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout's own package

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

from mmdet_salience.utils.config_text import load_checkpoint_config
from mmdet_salience.utils.pickled_values import ALLOWED
from mmdet_salience.utils.safe_load import load_safely

CONFIG = (
    "model = dict(type='ResNet', depth=18, init_cfg=None)\n"
    "test_dataloader = dict(dataset=dict(metainfo=dict(classes=('a', 'b')), pipeline=[\n"
    "    dict(type='LoadImageFromFile', backend_args=None),\n"
    "    dict(type='Resize', scale=(9, -1.5e3)),\n"
    "    dict({'type': 'PackDetInputs'}, meta_keys=('a', 'b'))]))\n"
)
LARGEST_TOUCHED = 1 << 24

# What random bytes hardly ever spell: calls, states, numbers at the edges, names.
TOKENS = [
    pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ, pickle.TUPLE, pickle.MARK, pickle.SETITEM,
    pickle.APPEND, pickle.DUP, pickle.EMPTY_DICT, pickle.EMPTY_TUPLE, pickle.NONE, pickle.POP,
    pickle.BINPERSID, pickle.SETITEMS, pickle.FROZENSET, pickle.STACK_GLOBAL, pickle.STOP,
    b'J\xff\xff\xff\xff', b'J\xff\xff\xff\x7f', b'\x8a\x08' + bytes(7) + b'\x40', b'K\x00',
    b'K\x01', b'r\xff\xff\xff\x7f', b'C\x08' + bytes(8), b'U\x02O8', b'U\x02f8', b'\x85',
    *(f'c{name.rpartition(".")[0]}\n{name.rpartition(".")[2]}\n'.encode() for name in ALLOWED),
    b'cos\nsystem\n', b'cbuiltins\neval\n',
]  # fmt: skip


def content() -> dict[str, Any]:
    """What a small training checkpoint holds."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    history = HistoryBuffer()
    history.update(1.0)
    return dict(
        meta=dict(epoch=1, iter=2, cfg=CONFIG, dataset_meta=dict(classes=('a', 'b'))),
        state_dict=OrderedDict(model.state_dict()),
        optimizer=optimizer.state_dict(),
        message_hub=dict(log_scalars=OrderedDict(a=history), runtime_info=dict(b=np.float64(1))),
        others=[np.arange(4).reshape(2, 2), np.array(['pit']), Counter([3]), {1}, b'abc', 1 << 70],
    )


def originals() -> list[bytes]:
    """Files in the formats that PyTorch writes."""
    files = []
    for options in ({}, dict(pickle_protocol=4), dict(_use_new_zipfile_serialization=False)):
        buffer = io.BytesIO()
        torch.save(content(), buffer, **options)
        files.append(buffer.getvalue())
    return files


def split(pickled: bytes) -> list[bytes]:
    """Cut a pickle into its operations."""
    places = [place for _, _, place in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(places, [*places[1:], len(pickled)], strict=True)]


def edit_bytes(data: st.DataObject, original: bytes) -> bytes:
    """Flip, replace, remove, insert, repeat or cut off bytes."""
    edited = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, max(len(edited) - 1, 0)))
        end = start + data.draw(st.integers(0, 16))
        kind = data.draw(st.sampled_from(['flip', 'replace', 'remove', 'insert', 'repeat', 'cut']))
        if kind == 'flip' and edited:
            edited[start] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == 'replace':
            edited[start:end] = data.draw(st.binary(max_size=16))
        elif kind == 'remove':
            del edited[start:end]
        elif kind == 'insert':
            edited[start:start] = data.draw(
                st.one_of(st.sampled_from(TOKENS), st.binary(max_size=9))
            )
        elif kind == 'repeat':
            edited[start:start] = edited[start:end]
        elif data.draw(st.booleans()):
            del edited[start:]
    return bytes(edited)


def edit_operations(data: st.DataObject, pickled: bytes) -> bytes:
    """Remove, repeat, move, insert or exchange operations of a pickle."""
    operations = split(pickled)
    for _ in range(data.draw(st.integers(1, 4))):
        first, second = (data.draw(st.integers(0, len(operations) - 1)) for _ in range(2))
        kind = data.draw(st.sampled_from(['remove', 'repeat', 'swap', 'insert', 'replace']))
        if kind == 'remove' and len(operations) > 1:
            del operations[first]
        elif kind == 'repeat':
            operations.insert(first, operations[second])
        elif kind == 'swap':
            operations[first], operations[second] = operations[second], operations[first]
        elif kind == 'insert':
            operations.insert(first, data.draw(st.sampled_from(TOKENS)))
        else:
            operations[first] = data.draw(st.sampled_from(TOKENS))
    return b''.join(operations)


def edit_entry(data: st.DataObject, original: bytes) -> bytes:
    """Edit a file within an archive: its pickle by operations, any by bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(buffer, 'w') as new:
        names = old.namelist()
        pickled = next(name for name in names if name.endswith('data.pkl'))
        by_operations = data.draw(st.booleans())
        chosen = pickled if by_operations else data.draw(st.sampled_from([pickled, *names]))
        for name in names:
            entry = old.read(name)
            if name == chosen:
                entry = (edit_operations if by_operations else edit_bytes)(data, entry)
            new.writestr(name, entry)
    return buffer.getvalue()


def edit_config(data: st.DataObject) -> bytes:
    """A checkpoint whose config is edited."""
    buffer = io.BytesIO()
    text = edit_bytes(data, CONFIG.encode()).decode('latin-1')
    torch.save(dict(state_dict={}, meta=dict(cfg=text)), buffer)
    return buffer.getvalue()


def touch(value: Any) -> None:
    """Read all numbers that were loaded, as whoever uses them does."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, HistoryBuffer):
        value = [*value.data, value.mean()]
    if isinstance(value, (list, tuple, set)):
        for part in value:
            touch(part)
    elif isinstance(value, torch.Tensor) and value.numel() <= LARGEST_TOUCHED:
        value.to(torch.float64 if not value.is_complex() else value.dtype).sum().item()
    elif isinstance(value, np.ndarray):
        value.tolist()
    repr(value)


def load(path: Path, function: Any) -> str:
    """Load a file; "loaded", "refused", or the type of an error that nobody should see."""
    try:
        found = function(path)
    except ValueError:
        return 'refused'
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    try:
        touch(found)
    except (ValueError, RecursionError, AssertionError, RuntimeError, TypeError):
        return 'loaded and odd'
    return 'loaded'


def run(folder: Path, examples: int, number: int) -> dict[str, Any]:
    """Load edited checkpoints.

    Args:
        folder: The file that is being loaded stays here if the process dies.
        examples: How many.
        number: Seed.

    Returns:
        How often each outcome came, and how much memory was needed beyond the first, in MB.
    """
    files, outcomes, path = originals(), Counter(), folder / 'edited.pth'
    for original in files:
        path.write_bytes(original)
        outcomes[f'original {load(path, load_safely)}'] += 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(['entry', 'file', 'entry', 'config']))
        if kind == 'config':
            path.write_bytes(edit_config(data))
            outcomes[load(path, lambda file: load_checkpoint_config(str(file)))] += 1
            return
        whole = kind == 'file'
        original = data.draw(st.sampled_from(files if whole else files[:2]))
        path.write_bytes((edit_bytes if whole else edit_entry)(data, original))
        outcomes[load(path, lambda file: load_safely(file, mmap=data.draw(st.booleans())))] += 1

    check()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return dict(outcomes=outcomes, megabytes=grown // 1024)


def main() -> None:
    """Print the outcomes as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--examples', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter('ignore')
    print(json.dumps(run(args.folder, args.examples, args.seed)))


if __name__ == '__main__':
    main()
