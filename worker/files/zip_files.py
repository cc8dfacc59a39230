"""Images in ZIP files, as CDs and archives export studies: listed, and taken out one at a time.

A ZIP file is untrusted: names may lead out of a folder, and a few kilobytes may unpack to terabytes. So nothing is
unpacked under a name of its own, and no more than a limit of each member.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from worker.errors import ZipMemberUnreadable

MAXIMUM_MEMBERS = 100_000
MAXIMUM_MEMBER_BYTES = 1 << 30
"""The most that is taken out of one member; `dicom_io.pixels.limits` bounds a DICOM file by as much."""
CHUNK_BYTES = 1 << 20
# What zipfile raises on files that are damaged, encrypted, or packed by a method that it does not know
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError)


def members_of(path: Path) -> list[str]:
    """Return the names of a ZIP file's members that are files, sorted.

    Raises
    ------
    ZipMemberUnreadable
        It is not a ZIP file, is damaged, or has too many members.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except UNREADABLE as error:
        raise ZipMemberUnreadable("the ZIP file cannot be read: damaged, or of an unknown kind") from error
    if len(names) > MAXIMUM_MEMBERS:
        raise ZipMemberUnreadable(f"the ZIP file has {len(names)} members, the limit is {MAXIMUM_MEMBERS}")
    return names


def safe_name(member: str) -> Path:
    """Return a member's name as a relative path that stays below any folder that it is joined to."""
    parts = [part for part in PurePosixPath(member.replace("\\", "/")).parts if part not in {"..", "/", "."}]
    printable = ["".join(each if each.isprintable() else "_" for each in part) for part in parts]
    return Path(*printable) if printable else Path("member")


def head_of(path: Path, member: str, size: int) -> bytes:
    """Return a member's first bytes.

    Raises
    ------
    ZipMemberUnreadable
        It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            return file.read(size)
    except (*UNREADABLE, KeyError) as error:
        raise _unreadable(error) from error


@contextmanager
def taken_out(path: Path, member: str) -> Iterator[Path]:
    """Give a temporary file with a member's content; it is gone at the end.

    Raises
    ------
    ZipMemberUnreadable
        It is damaged, encrypted, or larger than the limit.
    """
    with tempfile.TemporaryDirectory(prefix="bonewatch-") as folder:
        copy = Path(folder) / f"member{Path(member).suffix[:8]}"
        try:
            _copy(path, member, copy)
        except (*UNREADABLE, KeyError) as error:
            raise _unreadable(error) from error
        yield copy


def _copy(path: Path, member: str, copy: Path) -> None:
    left = MAXIMUM_MEMBER_BYTES
    with zipfile.ZipFile(path) as archive, archive.open(member) as source, copy.open("wb") as target:
        while chunk := source.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise ZipMemberUnreadable(f"it unpacks to more than {MAXIMUM_MEMBER_BYTES} bytes")
            target.write(chunk)


def _unreadable(error: Exception) -> ZipMemberUnreadable:
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return ZipMemberUnreadable("it is encrypted in its ZIP file")
    return ZipMemberUnreadable("it cannot be taken out of its ZIP file: damaged, or packed by an unknown method")
