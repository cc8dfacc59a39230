"""Which files `analyze` looks at, and what each of them claims to be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from worker.errors import ZipMemberUnreadable
from worker.files.zip_files import head_of, members_of, safe_name, taken_out

DICOM_SUFFIXES = frozenset({".dcm", ".dic", ".dicom", ".ima"})
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"})
PICTURE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ZIP_SUFFIX = ".zip"
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

    `name` is the path below the folder that was searched, or the file's own name. For a file in a ZIP file `path` is
    its name below that file's path, `zip_file` that path and `member` its name in there.
    """

    path: Path
    kind: Kind = Kind.OTHER
    obstacle: str | None = None
    name: Path = Path()
    zip_file: Path | None = None
    member: str = ""

    @property
    def stored_in(self) -> Path:
        """The file on disk that holds it."""
        return self.zip_file or self.path

    @contextmanager
    def readable(self) -> Iterator[Path]:
        """Give a path that its content can be read from until the end of the block.

        Raises
        ------
        ZipMemberUnreadable
            It cannot be taken out of its ZIP file.
        """
        if self.zip_file is None:
            yield self.path
        else:
            with taken_out(self.zip_file, self.member) as copy:
                yield copy


@dataclass(frozen=True, slots=True)
class Selection:
    """What was found, in order, and how many files of folders were passed over as no images."""

    candidates: tuple[Candidate, ...]
    skipped: int


def select(paths: Sequence[Path], leave_out: Path | None = None, *, open_zip: bool = False) -> Selection:
    """Choose the files to analyse.

    1. A file that is named always gets an answer, whatever it is; so does a path that does not exist.
    2. A folder is searched with all its folders, sorted by name. DICOM files and pictures, by content or by suffix, get
       an answer; anything else in it (read-me, tables, DICOMDIR) is passed over and counted.
    3. A folder without one candidate gets an answer itself: nothing analysed must not look like success.
    4. With `open_zip` a ZIP file is searched as a folder is; without, it is a file like any other.
    5. A file that is met twice is analysed once.

    Parameters
    ----------
    paths : sequence of Path
        As the user gave them.
    leave_out : Path, optional
        A folder that is not searched: that of the output, which may lie below.
    open_zip : bool
        Whether what is in ZIP files is looked at.
    """
    chosen: dict[Path, Candidate] = {}
    skipped = 0
    for path in paths:
        if path.is_dir():
            found, passed_over = _search(path, leave_out, open_zip=open_zip)
        elif open_zip and _is_zip(path):
            found, passed_over = _search_zip(path, Path(path.name))
        else:
            found, passed_over = [_named(path, Path(path.name))], 0
        skipped += passed_over
        for candidate in found or [Candidate(path, obstacle=_nothing_in(path, passed_over))]:
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


def _search(folder: Path, leave_out: Path | None, *, open_zip: bool) -> tuple[list[Candidate], int]:
    found: list[Candidate] = []
    skipped = 0
    for path in _files(folder, leave_out):
        if open_zip and _is_zip(path):
            inside, passed_over = _search_zip(path, path.relative_to(folder))
            found += inside
            skipped += passed_over
            continue
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


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ZIP_SUFFIX and path.is_file()


def _search_zip(path: Path, name: Path) -> tuple[list[Candidate], int]:
    """Return what is in a ZIP file, below its own name; one that cannot be read gets an answer itself."""
    try:
        members = members_of(path)
    except ZipMemberUnreadable as error:
        return [Candidate(path, obstacle=str(error), name=name)], 0
    found = [_member(path, name, member) for member in members]
    images = [each for each in found if _may_be_image(each)]
    return images, len(found) - len(images)


def _may_be_image(member: Candidate) -> bool:
    """Tell what may be an image; on CDs these have no suffix, so one that cannot be read may be one."""
    if member.path.name.upper() == DICOM_FOLDER_FILE:
        return False
    return member.kind is not Kind.OTHER or (member.obstacle is not None and not member.path.suffix)


def _member(path: Path, name: Path, member: str) -> Candidate:
    inside = safe_name(member)
    try:
        kind, obstacle = _kind(head_of(path, member, PREAMBLE_BYTES + 4), inside), None
    except ZipMemberUnreadable as error:
        kind, obstacle = _kind_by_suffix(inside), str(error)
    return Candidate(path / inside, kind, obstacle, name / inside, zip_file=path, member=member)


def _nothing_in(path: Path, passed_over: int) -> str:
    what = "folder" if path.is_dir() else "ZIP file"
    if not passed_over:
        return f"the {what} is empty"
    return f"the {what} holds no DICOM file and no picture (JPEG, PNG, TIFF, WebP)"


def output_names(candidates: Sequence[Candidate]) -> list[Path]:
    """Return the name, without suffix, that each file's outputs have below one folder; a second `hand` is `hand-2`.

    It depends on the selection alone, so that a run that goes on writes each file's outputs where they would have been.
    """
    taken: Counter[Path] = Counter()
    names = []
    for candidate in candidates:
        stem = candidate.name.with_suffix("") if candidate.name.name else Path("file")  # what is not there has no name
        taken[stem] += 1
        names.append(stem if taken[stem] == 1 else stem.with_name(f"{stem.name}-{taken[stem]}"))
    return names


def has_image_suffix(path: Path) -> bool:
    """Say whether the name promises an image."""
    return path.suffix.lower() in DICOM_SUFFIXES | PICTURE_SUFFIXES


def kind_of(path: Path) -> Kind:
    """Tell a file's kind from its first bytes (PS3.10 7.1; signatures of PNG, JPEG, TIFF, WebP), else from its suffix.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        return _kind(file.read(PREAMBLE_BYTES + 4), path)


def _kind(head: bytes, path: Path) -> Kind:
    if head[PREAMBLE_BYTES:] == b"DICM":
        return Kind.DICOM
    if head.startswith(PICTURE_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return Kind.PICTURE
    return _kind_by_suffix(path)


def _kind_by_suffix(path: Path) -> Kind:
    if path.suffix.lower() in DICOM_SUFFIXES:
        return Kind.DICOM
    return Kind.PICTURE if path.suffix.lower() in PICTURE_SUFFIXES else Kind.OTHER
