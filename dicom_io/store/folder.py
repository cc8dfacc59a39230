"""Part 10 files on disk: written once, durable before anybody is told, never half there (PS3.10 Section 7)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from dicom_io.durable import as_store_errors, copy_durably, open_private, remaining_bytes, sync_folder
from dicom_io.errors import HeaderError, PathOutside, StoreError
from dicom_io.header.file_meta import encode_file_meta
from dicom_io.header.header import read_file_meta
from dicom_io.types import InstanceHeader, StoredFile
from dicom_io.uids import is_safe_uid

_QUARANTINE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,80}", re.ASCII)


@dataclass
class InstanceStore:
    """A folder of instances. Several processes may use the same one.

    Everything is written to `incoming/` first, forced to disk, and then renamed to its place, so a name outside
    `incoming/` always is a whole file. Names carry a piece of the content's digest: two different contents under one
    SOP Instance UID never overwrite each other.

    Parameters
    ----------
    root : Path
        The folder; created at the first write, all on one file system. On a network share, durable means what its
        fsync and rename keep.
    minimum_free_bytes : int
        Writing is refused (StoreError) when less than this would remain: the disk is shared with a database that must
        go on recording why.
    """

    root: Path
    minimum_free_bytes: int = 0
    _durable_folders: set[Path] = field(default_factory=set, init=False, repr=False)

    def reserving(self, minimum_free_bytes: int) -> InstanceStore:
        """Return the same store with another reserve of free disk."""
        return replace(self, minimum_free_bytes=minimum_free_bytes)

    def put(self, part10: bytes | Path, header: InstanceHeader) -> StoredFile:
        """Store a whole Part 10 file as it is.

        Raises
        ------
        HeaderError
            It is not a Part 10 file.
        StoreError
            The disk cannot take it now; nothing is left behind.
        """
        with _opened(part10) as stream:
            read_file_meta(stream)
            offset = stream.tell()
            stream.seek(0)
            return self._put(stream.read(offset), stream, header)

    def put_data_set(self, data_set: BinaryIO, header: InstanceHeader) -> StoredFile:
        """Store an encoded data set, byte for byte from the stream's position on, behind file meta information of ours.

        Raises
        ------
        StoreError
            The disk cannot take it now; nothing is left behind.
        """
        return self._put(
            encode_file_meta(header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid),
            data_set,
            header,
        )

    def put_report(self, part10: bytes, sop_instance_uid: str) -> StoredFile:
        """Store a report that we built, in place of an earlier one with the same UID, as durably as an instance."""
        target = self.root / "reports" / f"{_safe(sop_instance_uid)}.dcm"
        stream = io.BytesIO(part10)
        read_file_meta(stream)
        prefix = part10[: stream.tell()]
        with as_store_errors(), self.receiving(len(part10)) as (temporary, path):
            written = copy_durably(prefix, stream, temporary)
            self.publish(path, target)
        return StoredFile(self._relative(target), written.digest, written.size_bytes)

    def quarantine(self, part10: bytes | StoredFile, name: str) -> str:
        """Put a refused file aside and return its path relative to the root.

        The name is completed with a piece of the content's digest: a sender that repeats a refused object does not fill
        the disk, and one that refuses to be refused cannot replace an earlier one.
        """
        if isinstance(part10, bytes):
            return self.quarantine_data_set(b"", io.BytesIO(part10), name)
        target = self._quarantined(name, part10.digest)
        with as_store_errors():
            self._move(self.path(part10.path), target)
        return self._relative(target)

    def quarantine_data_set(self, prefix: bytes, data_set: BinaryIO, name: str) -> str:
        """Put a refused data set aside behind `prefix`; otherwise as `quarantine`."""
        with as_store_errors(), self.receiving(len(prefix) + remaining_bytes(data_set)) as (temporary, path):
            written = copy_durably(prefix, data_set, temporary)
            target = self._quarantined(name, written.digest)
            self.publish(path, target)
        return self._relative(target)

    def discard(self, stored: StoredFile) -> None:
        """Remove a file that turned out not to be needed. It need not exist any more."""
        with as_store_errors():
            self.path(stored.path).unlink(missing_ok=True)

    def holds(self, stored: StoredFile) -> bool:
        """Say whether a file is there now, whole."""
        with as_store_errors():
            try:
                return self.path(stored.path).stat().st_size == stored.size_bytes
            except FileNotFoundError:
                return False

    def received(self) -> Iterator[tuple[str, float]]:
        """Yield the relative path of every received instance and when it was written (seconds of the Unix epoch)."""
        return self._files_below(self.root / "instances", levels=2)

    def path(self, relative: str) -> Path:
        """Return the absolute path of a stored file.

        Raises
        ------
        PathOutside
            The path leads out of the store.
        """
        parts = PurePosixPath(relative)
        root = self.root.resolve()
        absolute = (root / parts).resolve()
        if parts.is_absolute() or absolute == root or not absolute.is_relative_to(root):
            raise PathOutside("a path leads out of the store")
        return absolute

    def spool(self) -> BinaryIO:
        """Return an unnamed file on the store's disk for something that is still arriving; it vanishes when closed.

        Raises
        ------
        StoreError
            There is no room for it.
        """
        if self.free_bytes() < self.minimum_free_bytes:
            raise StoreError("the disk of the store is nearly full")
        with as_store_errors():
            return tempfile.TemporaryFile(dir=self._folder("incoming"))

    def free_bytes(self) -> int:
        """Return the bytes that are free for us on the store's file system."""
        with as_store_errors():
            return shutil.disk_usage(self._folder()).free

    def remove_abandoned(self) -> int:
        """Remove what dead writers left in `incoming/` and return how many files that were.

        A living writer, in whichever process, holds a lock on its file; a lock dies with its process.
        """
        removed = 0
        for path in self._folder("incoming").glob("*.part"):
            with contextlib.suppress(OSError), path.open("rb") as abandoned:
                fcntl.flock(abandoned, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
        return removed

    def is_empty(self) -> bool:
        """Say whether the folder is empty or not there, as where its disk is not mounted."""
        with as_store_errors():
            return not self.root.is_dir() or not any(self.root.iterdir())

    def _put(self, prefix: bytes, data_set: BinaryIO, header: InstanceHeader) -> StoredFile:
        """Write, digest, force to disk, rename, force the name to disk.

        The temporary file is written even when the same content is there already: the digest is known only at the end,
        and a second copy for a moment is cheaper than two readings of every new file.
        """
        folder = self.root / "instances" / _safe(header.study_instance_uid) / _safe(header.series_instance_uid)
        name = _safe(header.sop_instance_uid)
        with as_store_errors(), self.receiving(len(prefix) + remaining_bytes(data_set)) as (temporary, path):
            written = copy_durably(prefix, data_set, temporary)
            target = folder / f"{name}.{written.digest[:16]}.dcm"
            if _holds(target, written.digest):
                self._make_durable(folder)
            else:
                self.publish(path, target)
            return StoredFile(self._relative(target), written.digest, target.stat().st_size)

    @contextlib.contextmanager
    def receiving(self, expected_bytes: int) -> Iterator[tuple[BinaryIO, Path]]:
        """Give a new, locked file in `incoming/`; it is gone afterwards unless it was published.

        Raises
        ------
        StoreError
            There is no room for what is expected.
        """
        folder = self._folder("incoming")
        if shutil.disk_usage(folder).free - expected_bytes < self.minimum_free_bytes:
            raise StoreError("the disk of the store is nearly full")
        path = folder / f"{secrets.token_hex(16)}.part"
        with open(path, "xb", opener=open_private) as temporary:
            try:
                fcntl.flock(temporary, fcntl.LOCK_EX)
                if os.fstat(temporary.fileno()).st_nlink == 0:
                    # remove_abandoned came between creation and lock.
                    raise StoreError("the store was being tidied up")
                yield temporary, path
            finally:
                path.unlink(missing_ok=True)

    def publish(self, path: Path, target: Path) -> None:
        """Give a whole file its name, durably."""
        self._folder(*target.relative_to(self.root).parent.parts)
        path.replace(target)
        self._make_durable(target.parent)

    def _move(self, source: Path, target: Path) -> None:
        self._folder("quarantine")
        try:
            source.replace(target)
        except FileNotFoundError:
            # The same refused object on two associations at once: the other one has moved it already.
            if not target.exists():
                raise
        sync_folder(target.parent)
        sync_folder(source.parent)

    def _files_below(self, folder: Path, levels: int) -> Iterator[tuple[str, float]]:
        """Walk folders of studies and series; what is removed meanwhile is passed over."""
        with as_store_errors(), contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
            for each in found:
                if levels and each.is_dir(follow_symlinks=False):
                    yield from self._files_below(Path(each.path), levels - 1)
                elif not levels and each.name.endswith(".dcm") and each.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        yield self._relative(Path(each.path)), each.stat(follow_symlinks=False).st_mtime

    def _quarantined(self, name: str, digest: str) -> Path:
        if _QUARANTINE_NAME.fullmatch(name) is None:
            name = "unnamed"
        return self.root / "quarantine" / f"{name}.{digest[:16]}.dcm"

    def _folder(self, *parts: str) -> Path:
        folder = self.root.joinpath(*parts)
        with as_store_errors():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            for each in (self.root, *reversed(folder.relative_to(self.root).parents), folder):
                self.root.joinpath(each).mkdir(exist_ok=True, mode=0o750)
        return folder

    def _make_durable(self, folder: Path) -> None:
        """Force the names of `folder` and of all folders above it, up to the root, to disk, once in our life."""
        sync_folder(folder)
        while folder != self.root and folder not in self._durable_folders:
            sync_folder(folder.parent)
            self._durable_folders.add(folder)
            folder = folder.parent
        if len(self._durable_folders) > 10_000:
            self._durable_folders.clear()

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _safe(uid: str) -> str:
    """Return `uid` if it may name a file. Callers checked it before; a path is worth a second look."""
    if not is_safe_uid(uid):
        raise HeaderError("what should name a file is not a UID")
    return uid


def _holds(path: Path, digest: str) -> bool:
    """Say whether this content is there already and whole. A file that rotted on disk is replaced by the new copy."""
    try:
        with path.open("rb") as stream:
            read_file_meta(stream)
            return hashlib.file_digest(stream, "sha256").hexdigest() == digest
    except (FileNotFoundError, HeaderError):
        return False


@contextlib.contextmanager
def _opened(part10: bytes | Path) -> Iterator[BinaryIO]:
    if isinstance(part10, bytes):
        yield io.BytesIO(part10)
        return
    with as_store_errors():
        stream = part10.open("rb")
    with stream:
        yield stream
