"""Reading structured reports back with other people's readers: dciodvfy, dsrdump and highdicom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
from pydicom.dataset import Dataset

from tests.peers import run

PRESENT, ABSENT = "52101004", "272519000"  # SCT
PROBABILITY = "122157"  # DCM


@dataclass(frozen=True)
class ReadBox:
    """A box as highdicom reads it: corners x1, y1, x2, y2 in the SR's image coordinates, and the image it is on."""

    sop_instance_uid: str
    frame_number: int
    corners: tuple[float, float, float, float]


def validator_errors(path: Path) -> list[str]:
    """Return the lines in which dciodvfy (dicom3tools) finds an error."""
    done = run("dciodvfy", path, expect=None)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def dump(path: Path) -> str:
    """Return the report as DCMTK's dsrdump shows it: a malformed tree ends it with an error."""
    return run("dsrdump", "+Pc", path).stdout


def read(path: Path) -> Dataset:
    """Return the report as highdicom's reader gives it: a broken template raises."""
    return highdicom.sr.srread(path)


def boxes(report: Dataset) -> list[ReadBox]:
    """Return the box of each planar region group (TID 1410)."""
    found = []
    for group in report.content.get_planar_roi_measurement_groups():
        region = group.roi
        points = np.asarray(region.value)
        (source,) = region.ContentSequence
        reference = source.ReferencedSOPSequence[0]
        frame = int(reference.get("ReferencedFrameNumber", 1))
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        found.append(ReadBox(str(reference.ReferencedSOPInstanceUID), frame, (x1, y1, x2, y2)))
    return found


def codes(report: Dataset) -> set[str]:
    """Return the value of every code item of the tree."""
    return {
        item.ConceptCodeSequence[0].CodeValue
        for item in _walk(report)
        if item.ValueType == "CODE" and "CodeValue" in item.ConceptCodeSequence[0]
    }


def numbers(report: Dataset, concept: str) -> list[float]:
    """Return the value of every numeric item with this concept name."""
    return [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in _walk(report)
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == concept
    ]


def _walk(item: Dataset) -> list[Dataset]:
    children = list(item.get("ContentSequence", []))
    return children + [below for child in children for below in _walk(child)]
