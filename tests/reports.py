"""Reading structured reports back with other people's readers: dciodvfy, dsrdump and highdicom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.report.structured_report import BuiltObject
from tests.peers import run

FRACTURE = "72704001"  # SCT
PROBABILITY = "122157"  # DCM
_PRESENCE = {"52101004": "present", "272519000": "absent"}  # SCT


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


def outlines(path: Path) -> tuple[list[tuple[float, ...]], str]:
    """Return the corners x1, y1, x2, y2 of every box that a presentation state draws, and the image they are on."""
    (annotation,) = dcmread(path).GraphicAnnotationSequence
    points = [outline.GraphicData for outline in annotation.GraphicObjectSequence]
    boxes = sorted((min(each[::2]), min(each[1::2]), max(each[::2]), max(each[1::2])) for each in points)
    return boxes, str(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID)


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


@dataclass(frozen=True)
class ReadAnswer:
    """What a report says of one image: 'present', 'absent', another code's meaning, or None; and the probability."""

    sop_instance_uid: str
    frame_number: int
    presence: str | None
    probability: float | None


def answers(report: Dataset) -> list[ReadAnswer]:
    """Return the answer of each image-level group (TID 1501)."""
    found = []
    for group in report.content.get_image_measurement_groups():
        items = list(group[0].ContentSequence)
        (image,) = (item for item in items if item.ValueType == "IMAGE")
        reference = image.ReferencedSOPSequence[0]
        evaluations = [item.ConceptCodeSequence[0] for item in items if _is(item, "CODE", FRACTURE)]
        probabilities = [float(item.value) for item in items if _is(item, "NUM", PROBABILITY)]
        found.append(
            ReadAnswer(
                str(reference.ReferencedSOPInstanceUID),
                int(reference.get("ReferencedFrameNumber", 1)),
                _PRESENCE.get(evaluations[0].CodeValue, evaluations[0].CodeMeaning) if evaluations else None,
                probabilities[0] if probabilities else None,
            )
        )
    return found


def _is(item: Dataset, value_type: str, concept: str) -> bool:
    return item.ValueType == value_type and item.ConceptNameCodeSequence[0].CodeValue == concept


def dataset(report: BuiltObject) -> Dataset:
    """Return a report that was just built."""
    return dcmread(BytesIO(report.part10))


def tree(report: BuiltObject) -> Any:
    """Return its content as highdicom's reader gives it."""
    return highdicom.sr.srread(BytesIO(report.part10)).content


def presence(report: BuiltObject) -> list[str | None]:
    """Return the SNOMED codes of the answers, None for an image without one, in the order of the images."""
    found = []
    for group in tree(report).get_image_measurement_groups():
        values = [e.value.value for e in group.get_qualitative_evaluations() if e.name.value == FRACTURE]
        found.append(values[0] if values else None)
    return found


def comments(report: BuiltObject) -> list[str]:
    """Return every text of the tree named Comment."""
    return [str(item.TextValue) for item in walk(dataset(report)) if "TextValue" in item and concept(item) == "121106"]


def walk(item: Dataset) -> Iterator[Dataset]:
    """Yield every item of the content below one, depth first."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def concept(item: Dataset) -> str | None:
    """Return the code of an item's concept name."""
    return item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else None
