"""What a report takes over from a source image: read as the tables are filled, and nothing that breaks the standard.

`dicom_io.header` reads the bytes, for tables and reports alike. Here every value is checked against the VR and the
multiplicity that the report's own attribute has (PS3.5 6.2). What does not fit: identifiers are left empty, because a
shortened one may be another patient's or another order's; names and descriptions are shortened; dates, times and codes
are left empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_io.class_names import is_image_class
from dicom_io.errors import HeaderError, ReportError
from dicom_io.header import text as header_text
from dicom_io.header.anatomy import site_code
from dicom_io.header.attributes import numbers
from dicom_io.header.header import instance_header, read_values
from dicom_io.report import text as report_text
from dicom_io.report.text import code_string, description, identifier, number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_io.header.values import HeaderValues
    from dicom_io.types import InstanceHeader

TYPE_2: dict[str, Callable[[str], str]] = {
    "PatientName": report_text.person_name,
    "PatientID": partial(identifier, vr="LO"),
    "PatientBirthDate": header_text.date,
    "PatientSex": partial(code_string, allowed=("M", "F", "O")),
    "StudyDate": header_text.date,
    "StudyTime": header_text.time,
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
        return is_image_class(self.sop_class_uid)


def read_source(path: Path) -> SourceImage:
    """Read the header of a stored source instance.

    Raises
    ------
    dicom_io.errors.ReportError
        When the file cannot be read, is not DICOM, or one of its four UIDs is missing or malformed.
    """
    try:
        values = read_values(path)
        header = instance_header(values)
    except HeaderError as error:
        raise ReportError(f"a source instance cannot be read: {error}") from error
    except OSError as error:
        raise ReportError("a source instance cannot be read") from error
    return SourceImage(
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        patient_id_as_sent=values.encoded("PatientID"),
        patient_and_study=_patient_and_study(values),
        modality=code_string(values.plain("Modality")),
        rows=header.rows or None,
        columns=header.columns or None,
        number_of_frames=header.number_of_frames,
        series_number=_integer(values.plain("SeriesNumber")),
        instance_number=_integer(values.plain("InstanceNumber")),
        body_part=code_string(header.body_part_examined or ""),
        view_position=code_string(values.plain("ViewPosition")),
        laterality=_laterality(values),
        site=_site(header),
        patient_orientation=_patient_orientation(values.plain("PatientOrientation")),
        imager_pixel_spacing=_spacing(numbers(values, "ImagerPixelSpacing")),
    )


def _patient_and_study(source: HeaderValues) -> Dataset:
    ds = Dataset()
    texts = []
    for keyword, clean in (TYPE_2 | TYPE_3).items():
        value = clean(source.text(keyword, keyword in PERSON_NAMES))
        if value or keyword in TYPE_2:
            setattr(ds, keyword, value)
            texts.append((keyword in PERSON_NAMES, value))
    if "DeidentificationMethod" in ds:
        ds.PatientIdentityRemoved = "YES"  # PS3.3 C.7.1.1: the method goes with the flag
    character_set = source.character_set.specific_character_set(
        texts=[value for is_name, value in texts if not is_name], names=[value for is_name, value in texts if is_name]
    )
    if character_set:
        ds.SpecificCharacterSet = character_set
    return ds


def _integer(text: str) -> str:
    return str(int(text)) if re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) else ""


def _laterality(values: HeaderValues) -> str:
    """Image Laterality (PS3.3 C.8.11.2) before Laterality of the series (C.7.3.1); U, unpaired, is none."""
    image = code_string(values.plain("ImageLaterality"), ("R", "L", "B", "U"))
    return image.replace("U", "") if image else code_string(values.plain("Laterality"), ("R", "L"))


def _site(header: InstanceHeader) -> Code | None:
    site = site_code(header)
    meaning = "" if site is None else report_text.plain(site.meaning)[:64].rstrip()
    return Code(site.value, site.scheme_designator, meaning) if site is not None and meaning else None


def _patient_orientation(text: str) -> tuple[str, ...]:
    """Two directions (PS3.3 C.7.6.1.1.1), or nothing."""
    values = tuple(code_string(value) for value in text.split("\\"))
    return values if len(values) == 2 and all(values) else ()


def _spacing(found: tuple[float | None, ...]) -> tuple[float, ...]:
    values = tuple(value for value in found if value is not None and value > 0)
    return values if len(values) == len(found) == 2 else ()
