"""What a site says of its images, matched with the files to be analysed; nothing is left out without being listed.

The tables are those of training (`training.site.labels`); here they also may say view, metal and split.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_io.errors import DicomError
from dicom_io.header.header import read_header
from training.data.dataset import VIEWS
from training.site.labels import WORDS, Box, BoxedImage, Label, SiteDataError, read_labels
from worker.files.candidates import Candidate, Kind


@dataclass(frozen=True, slots=True)
class Truth:
    """One line of the labels with what else it says."""

    label: Label
    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    hardware: bool = False
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """A file with its truth; `boxes_xyxy` in pixels of the image, upright as it is analysed."""

    candidate: Candidate
    truth: Truth
    boxes_xyxy: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Matching:
    """Files with a label, and what did not fit: labels and boxed images without a file, files without a label."""

    matched: tuple[Matched, ...]
    labels_without_file: tuple[str, ...]
    boxes_without_file: tuple[str, ...]
    files_without_label: tuple[Path, ...]
    labels_of_other_splits: int


def read_truth(path: Path) -> list[Truth]:
    """Read the labels; beside what training asks for, `body_part`, views, `hardware` and `split` may stand there.

    Raises
    ------
    SiteDataError
        See `training.site.labels.read_labels`.
    OSError
        The file cannot be read.
    """
    labels = read_labels(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        numbered = [(reader.line_num, row) for row in reader]
    rows = {line: {name: (text or "").strip() for name, text in row.items()} for line, row in numbered}
    return [_truth(label, rows[label.line]) for label in labels]


def _truth(label: Label, row: Mapping[str, str]) -> Truth:
    named = row.get("body_part", "").lower()
    return Truth(
        label=label,
        body_parts=label.body_parts or ((named,) if named else ()),
        views=tuple(view for view in VIEWS if WORDS.get(row.get(view, "").lower(), False)),
        hardware=WORDS.get(row.get("hardware", "").lower(), False),
        split=row.get("split") or None,
    )


def of_split(truths: Sequence[Truth], split: str | None) -> list[Truth]:
    """Choose the lines of one split; all of them where none is named.

    Raises
    ------
    SiteDataError
        No line is of that split.
    """
    chosen = [truth for truth in truths if split is None or truth.split == split]
    if not chosen:
        known = ", ".join(sorted({truth.split for truth in truths if truth.split})) or "none"
        raise SiteDataError(
            "the labels have no line" + ("" if split is None else f" of split {split} (there: {known})")
        )
    return chosen


class FileIndex:
    """Finds the file that a key means: its path below the folder, its name, or its SOP Instance UID.

    Headers are read only where some key is no name.
    """

    def __init__(self, candidates: Sequence[Candidate], keys: Iterable[str]) -> None:
        self._files: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            for key in {candidate.name.as_posix(), candidate.name.name}:
                self._files[key].append(candidate)
        if any(_plain(key) not in self._files for key in keys):
            for candidate in candidates:
                if uid := _uid(candidate):
                    self._files[uid].append(candidate)

    def find(self, key: str) -> Candidate | None:
        """Return the file of a key, or None; a whole path beats a name. Raises SiteDataError where several fit."""
        found = self._files.get(_plain(key), [])
        exact = [candidate for candidate in found if candidate.name.as_posix() == _plain(key)]
        if len(exact or found) > 1:
            raise SiteDataError(f"{key} fits {len(exact or found)} files; give the path below the folder instead")
        return next(iter(exact or found), None)


def _plain(key: str) -> str:
    return key.replace("\\", "/").removeprefix("./")


def _uid(candidate: Candidate) -> str | None:
    if candidate.kind is not Kind.DICOM or candidate.obstacle is not None:
        return None
    try:
        return read_header(candidate.path).sop_instance_uid
    except (DicomError, OSError):  # it is listed as a file without a label, or fails by its name
        return None


def match(
    candidates: Sequence[Candidate], truths: Sequence[Truth], boxed: Sequence[BoxedImage], split: str | None = None
) -> Matching:
    """Find the file of each label of the split and of each boxed image.

    Raises
    ------
    SiteDataError
        No label is of that split, a key fits several files, two lines contradict each other about one file, a file
        stands in the boxes twice, or an image that is labelled as normal has a box.
    """
    chosen = of_split(truths, split)
    index = FileIndex(candidates, [truth.label.key for truth in truths] + [image.key for image in boxed])
    files = {truth.label.key: index.find(truth.label.key) for truth in truths}
    labelled = {file.path for file in files.values() if file is not None}
    boxes = _boxes_by_file(index, boxed)
    said: dict[Path, Truth] = {}
    for truth in chosen:
        if (file := files[truth.label.key]) is not None:
            if said.setdefault(file.path, truth).label.fractured != truth.label.fractured:
                raise SiteDataError(f"lines {said[file.path].label.line} and {truth.label.line} contradict each other")
            if boxes.get(file.path) and not truth.label.fractured:
                raise SiteDataError(
                    f"{truth.label.key} is labelled as not fractured and has a box; correct one of them"
                )
    return Matching(
        matched=tuple(Matched(c, said[c.path], boxes.get(c.path, ())) for c in candidates if c.path in said),
        labels_without_file=tuple(truth.label.key for truth in chosen if files[truth.label.key] is None),
        boxes_without_file=tuple(image.key for image in boxed if index.find(image.key) is None),
        files_without_label=tuple(candidate.path for candidate in candidates if candidate.path not in labelled),
        labels_of_other_splits=len(truths) - len(chosen),
    )


def _boxes_by_file(index: FileIndex, boxed: Sequence[BoxedImage]) -> dict[Path, tuple[Box, ...]]:
    found = [(file, image) for image in boxed if (file := index.find(image.key)) is not None]
    boxes = {file.path: image.boxes_xyxy for file, image in found}
    if doubled := len(found) - len(boxes):
        raise SiteDataError(f"the boxes have {doubled} entries too many; give each file once, with all of its boxes")
    return boxes
