"""A structured report as lines of text, for people at a terminal: the content tree, indented (PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_io.errors import HeaderError


def report_outline(path: Path) -> tuple[str, ...]:
    """Return the lines of a report, each content item one line, children two columns to the right.

    Raises
    ------
    dicom_io.errors.HeaderError
        When the file is no structured report.
    """
    try:
        ds = dcmread(path)
        return tuple(_lines(ds, 0))
    except (InvalidDicomError, AttributeError, KeyError, IndexError) as error:
        raise HeaderError(f"{path.name} is not a structured report") from error


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else "item"
    value = _value(item)
    yield f"{'  ' * depth}{name}: {value}" if value else f"{'  ' * depth}{name}"
    for child in item.get("ContentSequence", ()):
        yield from _lines(child, depth + 1)


def _value(item: Dataset) -> str:
    kind = item.ValueType
    if kind == "CODE":
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    if kind == "NUM":
        measured = item.MeasuredValueSequence[0] if item.get("MeasuredValueSequence") else None
        return "" if measured is None else f"{float(measured.NumericValue):g}"
    if kind == "IMAGE":
        return f"image {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID}"
    if kind == "SCOORD":
        data = [float(number) for number in item.GraphicData]
        corners = " ".join(f"({x:.1f}, {y:.1f})" for x, y in zip(data[::2], data[1::2], strict=True))
        return f"{item.GraphicType} {corners}"
    plain = {"TEXT": "TextValue", "UIDREF": "UID", "DATETIME": "DateTime", "DATE": "Date", "PNAME": "PersonName"}
    return str(item.get(plain[kind], "")) if kind in plain else ""
