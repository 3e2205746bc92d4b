"""Checksums of checkpoints, so that a file is read as it was written, or not at all.

A checkpoint is a zip archive. PyTorch stores a CRC-32 of each entry and does not look at it when it
reads. Checkpoints of this package also have a digest of the whole file, in the archive's comment,
which everything that reads zip archives skips and which goes where the file goes.
"""

import hashlib
import os
import zipfile
from pathlib import Path

# The end of an archive without a comment: a record that ends in the length of the comment.
END_MAGIC = b'PK\x05\x06'
END_SIZE = 22
LENGTH_SIZE = 2

PREFIX = b'blake2b:'
DIGEST_SIZE = 16
COMMENT_SIZE = len(PREFIX) + 2 * DIGEST_SIZE
MOST_DAMAGED = 2  # bytes of the prefix that may have changed in a comment that is still ours
CHUNK = 1 << 20


class DamagedFileError(ValueError):
    """A file is not as it was written."""


def make_comment(digest: 'hashlib.blake2b') -> bytes:
    """Comment for a digest of what comes before it."""
    return PREFIX + digest.hexdigest().encode()


def seal(content: bytes | memoryview) -> list[bytes | memoryview]:
    """Add a digest to a checkpoint.

    Args:
        content: A file's content.

    Returns:
        What to write, in pieces; anything but an archive without a comment is left as it is.
    """
    end = bytes(content[-END_SIZE:])
    if not end.startswith(END_MAGIC) or end[-LENGTH_SIZE:] != bytes(LENGTH_SIZE):
        return [content]
    archive, length = memoryview(content)[:-LENGTH_SIZE], COMMENT_SIZE.to_bytes(2, 'little')
    digest = hashlib.blake2b(archive, digest_size=DIGEST_SIZE)
    digest.update(length)
    return [archive, length, make_comment(digest)]


def is_own(comment: bytes) -> bool:
    """Whether a comment is one of this package, even if it is damaged."""
    changed = sum(one != other for one, other in zip(comment, PREFIX, strict=False))
    return comment.startswith(PREFIX) or (len(comment) == COMMENT_SIZE and changed <= MOST_DAMAGED)


def verify(path: Path) -> None:
    """Compare a file with its checksums: its digest, else those of its entries.

    Args:
        path: The file. What is no archive, or has no checksums, passes.

    Raises:
        DamagedFileError: It is not as it was written.
        OSError: It cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if is_own(archive.comment):
            matches = archive.comment == make_comment(digest_before_comment(path))
        else:
            has_sums = any(entry.CRC for entry in archive.infolist())  # may be switched off
            matches = not has_sums or archive.testzip() is None
    if not matches:
        raise DamagedFileError(
            'its checksum does not match, so bytes have changed since it was written'
        )


def digest_before_comment(path: Path) -> 'hashlib.blake2b':
    """Digest of a file up to its comment."""
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    left = os.path.getsize(path) - COMMENT_SIZE
    with path.open('rb') as file:
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest
