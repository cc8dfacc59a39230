"""Which files `analyze` looks at, and what each of them claims to be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

DICOM_SUFFIXES = frozenset({".dcm", ".dic", ".dicom", ".ima"})
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
DICOM_FOLDER_FILE = "DICOMDIR"
PREAMBLE_BYTES = 128


class Kind(Enum):
    """What a file is by its first bytes, or claims to be by its name."""

    DICOM = "DICOM"
    PICTURE = "picture"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to be analysed; `obstacle` says in words why that is not even tried.

    `name` is the path below the folder that was searched, or the file's own name.
    """

    path: Path
    kind: Kind = Kind.OTHER
    obstacle: str | None = None
    name: Path = Path()


@dataclass(frozen=True, slots=True)
class Selection:
    """What was found, in order, and how many files of folders were passed over as no images."""

    candidates: tuple[Candidate, ...]
    skipped: int


def select(paths: Sequence[Path], leave_out: Path | None = None) -> Selection:
    """Choose the files to analyse.

    1. A file that is named always gets an answer, whatever it is; so does a path that does not exist.
    2. A folder is searched with all its folders, sorted by name. DICOM files and pictures, by content or by suffix, get
       an answer; anything else in it (read-me, tables, DICOMDIR) is passed over and counted.
    3. A folder without one candidate gets an answer itself: nothing analysed must not look like success.
    4. A file that is met twice is analysed once.

    Parameters
    ----------
    paths : sequence of Path
        As the user gave them.
    leave_out : Path, optional
        A folder that is not searched: that of the output, which may lie below.
    """
    chosen: dict[Path, Candidate] = {}
    skipped = 0
    for path in paths:
        if not path.is_dir():
            chosen.setdefault(path, _named(path, Path(path.name)))
            continue
        found, passed_over = _search(path, leave_out)
        skipped += passed_over
        for candidate in found or [Candidate(path, obstacle=_nothing_in(passed_over))]:
            chosen.setdefault(candidate.path, candidate)
    return Selection(tuple(chosen.values()), skipped)


def _named(path: Path, name: Path) -> Candidate:
    if not path.exists():
        return Candidate(path, obstacle="there is no such file or folder")
    if not path.is_file():
        return Candidate(path, obstacle="not a regular file")
    try:
        return Candidate(path, kind_of(path), name=name)
    except OSError as error:
        return Candidate(path, obstacle=f"the file cannot be read: {error.strerror}")


def _search(folder: Path, leave_out: Path | None) -> tuple[list[Candidate], int]:
    found, skipped = [], 0
    for path in _files(folder, leave_out):
        candidate = _named(path, path.relative_to(folder))
        unreadable = candidate.obstacle is not None and has_image_suffix(path)
        if (candidate.kind is not Kind.OTHER or unreadable) and path.name.upper() != DICOM_FOLDER_FILE:
            found.append(candidate)
        else:
            skipped += 1
    return found, skipped


def _files(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    left_out = None if leave_out is None else leave_out.resolve()
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(root, name).resolve() != left_out)
        yield from (Path(root) / name for name in sorted(files))


def _nothing_in(passed_over: int) -> str:
    return "the folder holds no DICOM, PNG or JPEG file" if passed_over else "the folder is empty"


def has_image_suffix(path: Path) -> bool:
    """Say whether the name promises an image."""
    return path.suffix.lower() in DICOM_SUFFIXES | PICTURE_SUFFIXES


def kind_of(path: Path) -> Kind:
    """Tell a file's kind from its first bytes (PS3.10 7.1; PNG and JPEG signatures), else from its suffix.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(PREAMBLE_BYTES + 4)
    if start[PREAMBLE_BYTES:] == b"DICM":
        return Kind.DICOM
    if start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return Kind.PICTURE
    if path.suffix.lower() in DICOM_SUFFIXES:
        return Kind.DICOM
    return Kind.PICTURE if path.suffix.lower() in PICTURE_SUFFIXES else Kind.OTHER
