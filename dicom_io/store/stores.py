"""What every store of instances does, wherever it keeps them, and how one is opened.

Store
├── dicom_io.store.folder.InstanceStore    a folder, of this machine or shared by several
└── dicom_io.store.bucket.ObjectStore      S3-compatible object storage, behind a folder that is spool and cache
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from dicom_io.store.bucket import ObjectStorage, ObjectStore, connect
from dicom_io.store.folder import InstanceStore
from dicom_io.types import InstanceHeader, StoredFile


class Store(Protocol):
    """Where received instances and our reports are kept. Safe to use from many threads and processes.

    What a method has returned from is durable: it survives the end of this machine's power, and is what every other
    machine finds. All methods raise StoreError where the store cannot take or give now; waiting may help.
    """

    @property
    def minimum_free_bytes(self) -> int:
        """What must remain free on the disk of this machine."""

    def reserving(self, minimum_free_bytes: int) -> Store:
        """Return the same store with another reserve of free disk."""

    def put(self, part10: bytes | Path, header: InstanceHeader) -> StoredFile:
        """Store a whole Part 10 file as it is."""

    def put_data_set(self, data_set: BinaryIO, header: InstanceHeader) -> StoredFile:
        """Store an encoded data set behind file meta information of ours."""

    def put_report(self, part10: bytes, sop_instance_uid: str) -> StoredFile:
        """Store a report that we built, in place of an earlier one with the same UID."""

    def quarantine(self, part10: bytes | StoredFile, name: str) -> str:
        """Put a refused file aside and return its path relative to the root."""

    def quarantine_data_set(self, prefix: bytes, data_set: BinaryIO, name: str) -> str:
        """Put a refused data set aside behind `prefix`."""

    def discard(self, stored: StoredFile) -> None:
        """Remove a file. It need not exist any more."""

    def holds(self, stored: StoredFile) -> bool:
        """Say whether the file is there now, whole: what another machine would find, not what this one remembers."""

    def received(self) -> Iterator[tuple[str, float]]:
        """Yield the relative path of every received instance and when it was written (seconds of the Unix epoch).

        One after another, in no order, however many there are; what is written meanwhile may be among them.
        """

    def path(self, relative: str) -> Path:
        """Return a path of this machine where the file can be read now; it does not exist where the store lacks it."""

    def spool(self) -> BinaryIO:
        """Return an unnamed file for something that is still arriving."""

    def free_bytes(self) -> int:
        """Return the bytes that are free for us on the disk of this machine."""

    def remove_abandoned(self) -> int:
        """Remove what dead writers left on this machine and return how many files that were."""

    def is_empty(self) -> bool:
        """Say whether there is nothing at all, as in a disk that is not mounted: one missing file then says nothing."""


def open_store(folder: Path, minimum_free_bytes: int, storage: ObjectStorage | None = None) -> Store:
    """Return the store of a site. Nothing is opened yet.

    Parameters
    ----------
    folder : Path
        Where the files are; with an object storage, where its spool and its cache are.
    minimum_free_bytes : int
        What must remain free on the folder's disk.
    storage : ObjectStorage or None
        Where the files are kept, if not in the folder.

    Raises
    ------
    StoreError
        The packages for object storage are not installed.
    """
    local = InstanceStore(folder, minimum_free_bytes)
    if storage is None:
        return local
    return ObjectStore(local, connect(storage), storage)
