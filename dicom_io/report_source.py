"""What a report takes over from a source image: read from raw bytes, and nothing that breaks the standard.

pydicom's own conversion is not used for text: it trusts the declared VR and character set. Here every value is
checked against the VR and the multiplicity that the report's own attribute has (PS3.5 6.2). What does not fit:
identifiers are left empty, because a shortened one may be another patient's or another order's; names and descriptions
are shortened; dates, times and codes are left empty.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_io import report_text
from dicom_io.anatomy import site_code
from dicom_io.errors import HeaderError, ReportError
from dicom_io.header import read_header
from dicom_io.report_text import SourceText, code_string, description, identifier, number
from dicom_io.uids import is_safe_uid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_io.types import InstanceHeader

UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
TYPE_2: dict[str, Callable[[str], str]] = {
    "PatientName": report_text.person_name,
    "PatientID": partial(identifier, vr="LO"),
    "PatientBirthDate": report_text.date,
    "PatientSex": partial(code_string, allowed=("M", "F", "O")),
    "StudyDate": report_text.date,
    "StudyTime": report_text.time,
    "ReferringPhysicianName": report_text.person_name,
    "StudyID": partial(identifier, vr="SH"),
    "AccessionNumber": partial(identifier, vr="SH"),
}
"""Attributes that a report has even when they are empty (PS3.3 C.7.1.1, C.7.2.1), and how they are made valid."""
TYPE_3: dict[str, Callable[[str], str]] = {
    "IssuerOfPatientID": partial(identifier, vr="LO"),
    "EthnicGroup": partial(description, vr="SH"),
    "PatientComments": partial(description, vr="LT"),
    "StudyDescription": partial(description, vr="LO"),
    "PatientAge": lambda text: text if re.fullmatch(r"\d{3}[DWMY]", text) else "",
    "PatientSize": number,
    "PatientWeight": number,
    "TimezoneOffsetFromUTC": lambda text: text if re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", text) else "",
    "DeidentificationMethod": partial(description, vr="LO"),
}
"""Attributes of patient and study that a report has only when the source has a valid one."""
PERSON_NAMES = ("PatientName", "ReferringPhysicianName")
IMAGE = (
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SeriesNumber",
    "InstanceNumber",
    "Laterality",
    "ImageLaterality",
    "ViewPosition",
    "PatientOrientation",
    "ImagerPixelSpacing",
)
PADDING = b"\0 "


@dataclass(frozen=True)
class SourceImage:
    """A source instance, reduced to valid values; text is empty and numbers are None where the header has none.

    `patient_id_as_sent` is for telling patients apart, even by identifiers that no report can carry;
    `patient_and_study` holds the attributes that a report shares with its sources and their Specific Character Set;
    `laterality` is one of R, L and B; `imager_pixel_spacing` is (between rows, between columns) in millimetres.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_id_as_sent: bytes = field(repr=False)
    patient_and_study: Dataset = field(repr=False)
    modality: str
    rows: int | None
    columns: int | None
    number_of_frames: int
    series_number: str
    instance_number: str
    body_part: str
    view_position: str
    laterality: str
    site: Code | None
    patient_orientation: tuple[str, ...]
    imager_pixel_spacing: tuple[float, ...]

    @property
    def is_image(self) -> bool:
        """Whether an IMAGE content item may refer to it (PS3.3 C.17.3.6), not so for a report or a dose.

        Readers refuse a whole report for a reference whose class they do not know as an image, so the class decides.
        """
        return "Image Storage" in UID(self.sop_class_uid).name


@dataclass(frozen=True)
class _Raw:
    """A value as it was encoded."""

    value: bytes = b""
    little_endian: bool = True

    @property
    def text(self) -> str:
        """The value as text of the default repertoire."""
        return self.value.decode("latin-1").strip("\0 ")


def read_source(path: Path) -> SourceImage:
    """Read the header of a stored source instance.

    Raises
    ------
    dicom_io.errors.ReportError
        When the file cannot be read, is not DICOM, or one of its four UIDs is missing or malformed.
    """
    wanted = [*UIDS, *TYPE_2, *TYPE_3, *IMAGE]
    try:
        with warnings.catch_warnings():
            # pydicom warns of character sets that it does not know; `SourceText` sees to them.
            warnings.simplefilter("ignore")
            ds = dcmread(path, stop_before_pixels=True, specific_tags=wanted)
        header = read_header(path)
    except HeaderError as error:
        raise ReportError(f"a source instance cannot be read: {error}") from error
    except (OSError, EOFError, InvalidDicomError, BytesLengthException, ValueError, NotImplementedError) as error:
        raise ReportError("a source instance cannot be read") from error
    raw = {keyword: _raw(ds, keyword) for keyword in wanted}
    for keyword in UIDS:
        if not is_safe_uid(raw[keyword].text):
            raise ReportError(f"{keyword} of a source instance is missing or malformed")
    return SourceImage(
        sop_class_uid=raw["SOPClassUID"].text,
        sop_instance_uid=raw["SOPInstanceUID"].text,
        series_instance_uid=raw["SeriesInstanceUID"].text,
        study_instance_uid=raw["StudyInstanceUID"].text,
        patient_id_as_sent=raw["PatientID"].value.strip(PADDING),
        patient_and_study=_patient_and_study(raw, SourceText(_raw(ds, "SpecificCharacterSet").value)),
        modality=code_string(raw["Modality"].text),
        rows=_unsigned_short(raw["Rows"]),
        columns=_unsigned_short(raw["Columns"]),
        number_of_frames=int(_integer(raw["NumberOfFrames"]) or 1),
        series_number=_integer(raw["SeriesNumber"]),
        instance_number=_integer(raw["InstanceNumber"]),
        body_part=code_string(header.body_part_examined or ""),
        view_position=code_string(raw["ViewPosition"].text),
        laterality=_laterality(raw),
        site=_site(header),
        patient_orientation=_patient_orientation(raw["PatientOrientation"]),
        imager_pixel_spacing=_spacing(raw["ImagerPixelSpacing"]),
    )


def _raw(ds: Dataset, keyword: str) -> _Raw:
    element: Any = ds.get_item(keyword) if keyword in ds else None
    value = getattr(element, "value", None)
    if isinstance(value, bytes):
        return _Raw(value, getattr(element, "is_little_endian", True))
    # pydicom converts Specific Character Set while it reads.
    terms = [value] if isinstance(value, str) else list(value or ()) if keyword == "SpecificCharacterSet" else []
    return _Raw("\\".join(terms).encode("latin-1", "replace"))


def _patient_and_study(raw: dict[str, _Raw], text: SourceText) -> Dataset:
    ds = Dataset()
    texts = []
    for keyword, clean in (TYPE_2 | TYPE_3).items():
        value = clean(text.decode(raw[keyword].value.strip(PADDING), keyword in PERSON_NAMES))
        if value or keyword in TYPE_2:
            setattr(ds, keyword, value)
            texts.append((keyword in PERSON_NAMES, value))
    if "DeidentificationMethod" in ds:
        ds.PatientIdentityRemoved = "YES"  # PS3.3 C.7.1.1: the method goes with the flag
    character_set = text.specific_character_set(
        texts=[value for is_name, value in texts if not is_name], names=[value for is_name, value in texts if is_name]
    )
    if character_set:
        ds.SpecificCharacterSet = character_set
    return ds


def _unsigned_short(raw: _Raw) -> int | None:
    if len(raw.value) != 2:
        return None
    return struct.unpack("<H" if raw.little_endian else ">H", raw.value)[0] or None


def _integer(raw: _Raw) -> str:
    return str(int(raw.text)) if re.fullmatch(r"[+-]?\d{1,9}", raw.text) else ""


def _laterality(raw: dict[str, _Raw]) -> str:
    """Image Laterality (PS3.3 C.8.11.2) before Laterality of the series (C.7.3.1); U, unpaired, is none."""
    image = code_string(raw["ImageLaterality"].text, ("R", "L", "B", "U"))
    return image.replace("U", "") if image else code_string(raw["Laterality"].text, ("R", "L"))


def _site(header: InstanceHeader) -> Code | None:
    site = site_code(header)
    meaning = "" if site is None else report_text.plain(site.meaning)[:64].rstrip()
    return Code(site.value, site.scheme_designator, meaning) if site is not None and meaning else None


def _patient_orientation(raw: _Raw) -> tuple[str, ...]:
    """Two directions (PS3.3 C.7.6.1.1.1), or nothing."""
    values = tuple(code_string(value) for value in raw.text.split("\\"))
    return values if len(values) == 2 and all(values) else ()


def _spacing(raw: _Raw) -> tuple[float, ...]:
    values = [float(value) if number(value) else 0.0 for value in raw.text.split("\\")]
    return tuple(values) if len(values) == 2 and all(0 < value < math.inf for value in values) else ()
