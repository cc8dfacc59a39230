"""The sample studies that the demonstration pushes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from dicom_io.errors import DicomError
from dicom_io.header.header import read_header
from worker.errors import StartRefused

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "samples"
"""In a source tree, beside the packages. An installed wheel has no samples: they are data of a project, not code."""


@dataclass(frozen=True, slots=True)
class SampleStudy:
    """One study: the name of its folder, what its headers say, and its truth where truth.csv has it."""

    name: str
    study_instance_uid: str
    body_part: str | None
    files: tuple[Path, ...]
    fractured: bool | None


def read_samples(folder: Path | None) -> tuple[SampleStudy, ...]:
    """Find the DICOM files below a folder and group them by study.

    Parameters
    ----------
    folder : Path or None
        None for the samples of the source tree.

    Raises
    ------
    worker.errors.StartRefused
        When there is no sample, or a file is not DICOM.
    """
    root = folder or SHIPPED
    files = sorted(root.rglob("*.dcm")) if root.is_dir() else []
    if not files:
        where = f"in {root}" if folder else f"at {root}: a wheel has none, a source tree has them in deploy/samples"
        raise StartRefused(f"there are no sample studies {where}; name a folder of DICOM files with --samples")
    truth = _read_truth(root / "truth.csv")
    grouped: dict[str, list[tuple[Path, str | None]]] = {}
    for path in files:
        try:
            header = read_header(path)
        except (DicomError, OSError) as error:
            raise StartRefused(f"the sample {path} cannot be pushed: {error}") from error
        grouped.setdefault(header.study_instance_uid, []).append((path, header.body_part_examined))
    return tuple(
        SampleStudy(
            name=members[0][0].parent.name,
            study_instance_uid=uid,
            body_part=members[0][1],
            files=tuple(path for path, _ in members),
            fractured=truth.get(uid),
        )
        for uid, members in grouped.items()
    )


def _read_truth(path: Path) -> dict[str, bool]:
    """Return which studies have a fracture in any image; nothing where the table is not there."""
    if not path.is_file():
        return {}
    fractured: dict[str, bool] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            uid = row.get("study_instance_uid", "")
            fractured[uid] = fractured.get(uid, False) or row.get("fractured") == "1"
    return fractured
