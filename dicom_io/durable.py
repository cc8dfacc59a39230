"""Writing so that a power cut cannot take it back (fsync(2), rename(2))."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dicom_io.errors import StoreError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the SHA-256 of the data set, and the size of the whole file."""

    digest: str
    size_bytes: int


def open_private(path: str, flags: int) -> int:
    """Create a file that nobody outside our user and group can read: these are patients' images."""
    return os.open(path, flags, 0o640)


def copy_durably(prefix: bytes, data_set: BinaryIO, target: BinaryIO) -> Written:
    """Copy prefix and data set, digest the data set alone, and force all of it to disk."""
    digest = hashlib.sha256()
    size_bytes = target.write(prefix)
    while chunk := data_set.read(_CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += target.write(chunk)
    target.flush()
    os.fsync(target.fileno())
    return Written(digest.hexdigest(), size_bytes)


def remaining_bytes(stream: BinaryIO) -> int:
    """Return how much there is to read from the stream's position to its end."""
    position = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    stream.seek(position)
    return end - position


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk: without it a rename may be forgotten by a power cut (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def as_store_errors() -> Iterator[None]:
    """Turn the operating system's refusals into ours; its message carries paths, so only its reason is kept."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"the store cannot be used: {error.strerror or type(error).__name__}") from error
