"""Instances in S3-compatible object storage, behind a folder of this machine that is both spool and cache.

Writing: the file is made whole in the folder first, by the same code as on a folder alone, then PUT in one request
whose MD5 the server compares (`Content-MD5`, RFC 1864), then asked for again: only a size that fits is relied on.
Reading: readers want paths, so a file is fetched whole and kept; what was not used for longest goes first. Names of
instances carry a digest of their content and never change it, so a cached one is right for ever; a report's name does
not, so reports are fetched each time.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from dicom_io.durable import as_store_errors
from dicom_io.errors import StoreError
from dicom_io.store.folder import InstanceStore
from dicom_io.types import InstanceHeader, StoredFile

IN_USE_SECONDS = 600.0
"""A cached file is not removed so soon after its path was given: its reader is about to open it."""
_LARGEST_PUT = 5 * 1024**3
_ATTEMPTS = 2
_SLOWEST_BYTES_PER_SECOND = 1_000_000
_CHANGING = "reports/"


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """An S3-compatible object storage: `url` is ``s3://<bucket>/<prefix>``; unset parts are left to the library.

    `cache_bytes` bounds what is kept on this machine of what the storage holds.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    key: str | None = None
    secret: str | None = None
    cache_bytes: int = 10 * 1024**3
    timeout_seconds: float = 30.0

    def __repr__(self) -> str:
        return f"ObjectStorage({self.url!r}, endpoint={self.endpoint!r})"


def connect(storage: ObjectStorage) -> Any:
    """Return fsspec's file system of an object storage; nothing is sent yet.

    Raises
    ------
    StoreError
        The packages are not installed.
    """
    try:
        from s3fs import S3FileSystem  # noqa: PLC0415 - an optional extra, and slow to import
    except ImportError as error:
        raise StoreError("object storage needs the extra s3: pip install 'bonewatch[s3]'") from error
    options = {
        "connect_timeout": min(storage.timeout_seconds, 10.0),
        "read_timeout": storage.timeout_seconds,
        "retries": {"max_attempts": _ATTEMPTS},
        # We send a Content-MD5 of our own, which every S3 server knows; the newer checksums only some.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    filesystem = S3FileSystem(
        key=storage.key,
        secret=storage.secret,
        endpoint_url=storage.endpoint,
        client_kwargs={} if storage.region is None else {"region_name": storage.region},
        config_kwargs=options,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.retries = _ATTEMPTS
    return filesystem


@dataclass
class ObjectStore:
    """A bucket, or a part of one, as the store of several machines (`dicom_io.store.stores.Store`).

    Parameters
    ----------
    local : InstanceStore
        The folder of this machine: what is being written, and copies of what the storage holds.
    filesystem : fsspec file system
        What `connect` returns.
    storage : ObjectStorage
        Where in it, and how much may be cached.
    """

    local: InstanceStore
    filesystem: Any
    storage: ObjectStorage
    _unchecked_bytes: int = field(default=-1, init=False, repr=False)
    _evicting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def minimum_free_bytes(self) -> int:
        """What must remain free on the disk of this machine."""
        return self.local.minimum_free_bytes

    def reserving(self, minimum_free_bytes: int) -> ObjectStore:
        """Return the same store with another reserve of free disk."""
        return replace(self, local=self.local.reserving(minimum_free_bytes))

    def put(self, part10: bytes | Path, header: InstanceHeader) -> StoredFile:
        """Store a whole Part 10 file as it is."""
        return self._uploaded(self.local.put(part10, header))

    def put_data_set(self, data_set: BinaryIO, header: InstanceHeader) -> StoredFile:
        """Store an encoded data set behind file meta information of ours."""
        return self._uploaded(self.local.put_data_set(data_set, header))

    def put_report(self, part10: bytes, sop_instance_uid: str) -> StoredFile:
        """Store a report that we built, in place of an earlier one with the same UID."""
        return self._uploaded(self.local.put_report(part10, sop_instance_uid))

    def quarantine(self, part10: bytes | StoredFile, name: str) -> str:
        """Put a refused file aside and return its path relative to the root.

        A stored one is uploaded under its new name before the old one goes: a crash in between leaves both.
        """
        if isinstance(part10, bytes):
            relative = self.local.quarantine(part10, name)
            self._upload(relative)
            return relative
        self.path(part10.path)
        relative = self.local.quarantine(part10, name)
        self._upload(relative)
        self.discard(part10)
        return relative

    def quarantine_data_set(self, prefix: bytes, data_set: BinaryIO, name: str) -> str:
        """Put a refused data set aside behind `prefix`."""
        relative = self.local.quarantine_data_set(prefix, data_set, name)
        self._upload(relative)
        return relative

    def discard(self, stored: StoredFile) -> None:
        """Remove a file. It need not exist any more."""
        self.local.discard(stored)
        with _answering(), contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(self._key(stored.path), timeout=self._patience())

    def holds(self, stored: StoredFile) -> bool:
        """Say whether the storage has the file now, whole; a copy on this machine says nothing."""
        with _answering():
            try:
                found = self.filesystem.info(self._key(stored.path), refresh=True, timeout=self._patience())
            except FileNotFoundError:
                return False
        return int(found["size"]) == stored.size_bytes

    def received(self) -> Iterator[tuple[str, float]]:
        """Yield what the storage has, then what lies on this machine alone: a copy whose upload was interrupted."""
        bucket, _, prefix = self._root().partition("/")
        prefix = f"{prefix}/" if prefix else ""
        wanted: dict[str, str] = {"Bucket": bucket, "Prefix": f"{prefix}instances/"}
        while True:
            with _answering():
                page = self.filesystem.call_s3("list_objects_v2", **wanted, timeout=self._patience())
            for each in page.get("Contents", ()):
                yield str(each["Key"]).removeprefix(prefix), each["LastModified"].timestamp()
            if not page.get("IsTruncated"):
                break
            wanted["ContinuationToken"] = page["NextContinuationToken"]
        yield from self.local.received()

    def path(self, relative: str) -> Path:
        """Return a path of this machine where the file can be read now; it does not exist where the storage lacks it.

        Raises
        ------
        StoreError
            The path leads out of the store, or the storage does not answer.
        """
        path = self.local.path(relative)
        if not relative.startswith(_CHANGING) and _used_again(path):
            return path
        key = self._key(relative)
        with _answering():
            try:
                size = int(self.filesystem.info(key, refresh=True, timeout=self._patience())["size"])
            except FileNotFoundError:
                with as_store_errors():
                    path.unlink(missing_ok=True)
                return path
            with self.local.receiving(size) as (temporary, unfinished):
                self.filesystem.get_file(key, str(unfinished), timeout=self._patience(size))
                if os.fstat(temporary.fileno()).st_size != size:
                    raise StoreError("the object storage has sent a part of a file")
                with as_store_errors():
                    self.local.publish(unfinished, path)
        self._keep_within_bounds(size)
        return path

    def spool(self) -> BinaryIO:
        """Return an unnamed file for something that is still arriving."""
        return self.local.spool()

    def free_bytes(self) -> int:
        """Return the bytes that are free for us on the disk of this machine; the storage itself names no limit."""
        return self.local.free_bytes()

    def remove_abandoned(self) -> int:
        """Remove what dead writers left on this machine and return how many files that were."""
        return self.local.remove_abandoned()

    def is_empty(self) -> bool:
        """Say whether the storage holds nothing below our prefix, or the bucket is not there."""
        with _answering():
            try:
                # A page of one: a bucket of millions is not listed to see that it is not empty.
                bucket, _, prefix = self._root().partition("/")
                found = self.filesystem.call_s3(
                    "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1, timeout=self._patience()
                )
            except FileNotFoundError:
                return True
        return not found.get("KeyCount", len(found.get("Contents", ())))

    def _uploaded(self, stored: StoredFile) -> StoredFile:
        try:
            self._upload(stored.path)
        except StoreError:
            # The sender is told to try again later: a copy that the storage lacks is an image that nobody counts.
            self.local.discard(stored)
            raise
        return stored

    def _upload(self, relative: str) -> None:
        """Send a file of the folder, whole, and see that it is there (see the head of this module)."""
        path, key = self.local.path(relative), self._key(relative)
        with as_store_errors():
            size = path.stat().st_size
            if size > _LARGEST_PUT:
                raise StoreError("the file is larger than an object storage takes in one piece")
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "md5").digest()
        with _answering():
            self.filesystem.put_file(
                str(path),
                key,
                chunksize=_LARGEST_PUT,
                ContentMD5=base64.b64encode(digest).decode(),
                timeout=self._patience(size),
            )
            if int(self.filesystem.info(key, refresh=True, timeout=self._patience())["size"]) != size:
                raise StoreError("the object storage does not hold what it was sent")
        self._keep_within_bounds(size)

    def _patience(self, size_bytes: int = 0) -> float:
        """Return how long a whole request may take, retries included: a server that hangs must not hold a thread."""
        return 2 * self.storage.timeout_seconds + size_bytes / _SLOWEST_BYTES_PER_SECOND

    def _root(self) -> str:
        return self.storage.url.removeprefix("s3://").rstrip("/")

    def _key(self, relative: str) -> str:
        return f"{self._root()}/{relative}"

    def _keep_within_bounds(self, added_bytes: int) -> None:
        """Remove what was not used for longest, once a twentieth of the bound was added since the last look."""
        with self._evicting:
            if self._unchecked_bytes >= 0:
                self._unchecked_bytes += added_bytes
                if self._unchecked_bytes < self.storage.cache_bytes // 20:
                    return
            self._unchecked_bytes = 0
            _evict(self.local.root, self.storage.cache_bytes)


def _used_again(path: Path) -> bool:
    """Say whether there is a copy, and note that it is used: the time of change of a copy is that of its last use."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"the store cannot be used: {error.strerror or type(error).__name__}") from error
    return True


def _evict(root: Path, bound: int) -> None:
    """Remove copies until nine tenths of the bound are left, those that nobody used for longest first."""
    copies = []
    for path in root.rglob("*.dcm"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            copies.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in copies)
    if total <= bound:
        return
    latest = time.time() - IN_USE_SECONDS
    for used, size, path in sorted(copies):
        if total <= bound * 0.9 or used > latest:
            return
        with as_store_errors():
            path.unlink(missing_ok=True)
        total -= size


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Turn everything that a storage, its library and the network raise into ours: keys name patients' studies."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an optional extra

    try:
        yield
    except (OSError, BotoCoreError, ClientError, TimeoutError) as error:
        raise StoreError(f"the object storage does not do what is asked ({type(error).__name__})") from error
