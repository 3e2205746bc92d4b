"""Checkpoints to hand out: weights and what describes them, in a file named by its content."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .safe_load import CheckpointFileError, load_safely

SUFFIX = '.pth'
DIGEST_DIGITS = 8

# What describes the weights; versions ("..._version") stay too.
KEPT_META = ('dataset_meta', 'cfg', 'epoch', 'iter', 'seed', 'config', 'source')

EMA_PREFIX = 'module.'


def file_sha256(path: Path, chunk_size: int = 1 << 20) -> str:
    """Hash a file.

    Args:
        path: The file.
        chunk_size: Bytes to read at a time.

    Returns:
        Its SHA-256 in hexadecimal digits.
    """
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(chunk_size):
            digest.update(chunk)
    return digest.hexdigest()


def hashed_path(target: Path, digest: str) -> Path:
    """Put the start of a hash into a file name, as MMDetection's model zoo does.

    Args:
        target: Path without hash; ``.pth`` may be missing.
        digest: The hash.

    Returns:
        ``<stem>-<8 digits>.pth`` in the same folder.
    """
    stem = target.name.removesuffix(SUFFIX)
    return target.with_name(f'{stem}-{digest[:DIGEST_DIGITS]}{SUFFIX}')


def plain_stem(path: Path) -> str:
    """Stem of a checkpoint's name, without the hash if its name has that of its content.

    Args:
        path: A checkpoint that is there.

    Returns:
        The stem. Eight other digits, a date for example, stay.
    """
    stem = path.name.removesuffix(SUFFIX)
    match = re.fullmatch(rf'(.+)-([0-9a-f]{{{DIGEST_DIGITS}}})', stem)
    if match and file_sha256(path).startswith(match[2]):
        return match[1]
    return stem


def resolve_target(out: Path | None, source: Path, stem: str) -> Path:
    """Decide where a checkpoint goes.

    Args:
        out: What the user asked for: a file without hash, a folder, or nothing.
        source: The file that is read.
        stem: Stem of the name where ``out`` names no file.

    Returns:
        Path without hash, beside the source if nothing was asked for.

    Raises:
        FileNotFoundError: The folder is not there.
    """
    if out is None:
        return source.with_name(stem + SUFFIX)
    if out.is_dir():
        return out / (stem + SUFFIX)
    if not out.parent.is_dir():
        raise FileNotFoundError(f'there is no folder {out.parent} for {out.name}; make it first')
    return out


def save_hashed(checkpoint: Mapping[str, Any], target: Path) -> Path:
    """Write a checkpoint under a name with its hash; all or nothing.

    The same content gives the same file, wherever and whenever it is written.

    Args:
        checkpoint: The checkpoint.
        target: Path without hash.

    Returns:
        The file.

    Raises:
        FileExistsError: The file is there already; it stays as it is.
    """
    draft = target.with_name(f'.{target.name}.{os.getpid()}.part')
    try:
        with draft.open('xb') as file:  # by path, torch would write the draft's name into the file
            torch.save(checkpoint, file)
        final = hashed_path(target, file_sha256(draft))
        try:
            os.link(draft, final)  # unlike a rename, this never replaces a file
        except FileExistsError:
            raise FileExistsError(
                f'{final} exists and is not overwritten; its name says that it holds the same, so '
                'use it, or remove it first'
            ) from None
        except OSError:  # a file system without hard links
            if final.exists():
                raise FileExistsError(f'{final} exists and is not overwritten') from None
            draft.rename(final)
    finally:
        draft.unlink(missing_ok=True)
    return final


def read_weights_only(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running anything that it may contain.

    Args:
        path: The file; it is mapped into memory where its format allows.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, or holds more than weights and plain values.
    """
    try:
        content = load_safely(path, mmap=True)
    except CheckpointFileError as error:
        raise ValueError(
            f'{error}. If it was downloaded, download it again; if it holds Python objects, save '
            'its state dict alone where it was made'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, and not a state dict')
    return content


def last_weights(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Find the weights of the last step in a checkpoint with a moving average.

    MMEngine's ``EMAHook`` swaps the two when it saves: the average is the ``state_dict``, so that
    it is what loads, and the weights of the last step are in ``ema_state_dict``.

    Args:
        checkpoint: The checkpoint.

    Returns:
        Weights by their names in the model.

    Raises:
        ValueError: There is no moving average.
    """
    swapped = checkpoint.get('ema_state_dict')
    if not isinstance(swapped, Mapping):
        raise ValueError(
            'it holds no moving average (no "ema_state_dict"): its weights are those of the last '
            'step as they are'
        )
    return {
        name.removeprefix(EMA_PREFIX): value
        for name, value in swapped.items()
        if name.startswith(EMA_PREFIX)
    }


def strip_checkpoint(checkpoint: Mapping[str, Any], averaged: bool = True) -> dict[str, Any]:
    """Keep what somebody needs to use the weights, and nothing that only training needs.

    Args:
        checkpoint: A checkpoint of MMEngine; it stays as it is.
        averaged: Whether a moving average is preferred to the weights of the last step.

    Returns:
        ``state_dict`` and ``meta``: classes, config, progress and versions.

    Raises:
        ValueError: There are no weights, or no moving average to leave out.
    """
    weights = checkpoint.get('state_dict')
    if not isinstance(weights, Mapping):
        raise ValueError('it is no checkpoint of MMEngine (no "state_dict")')
    meta = checkpoint.get('meta') or {}
    kept = {
        key: value for key, value in meta.items() if key in KEPT_META or key.endswith('_version')
    }
    return {'state_dict': weights if averaged else last_weights(checkpoint), 'meta': kept}
