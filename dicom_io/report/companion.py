"""What a report's companions share: pictures for people, made of one image of the report, in the report's study.

A companion's identity derives from its report's, so that building twice gives the same object, as for the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dicom_io.report.content import device_uid
from dicom_io.report.structured_report import wall_clock
from dicom_io.report.text import long_string
from dicom_io.types import Algorithm, ReportedImage, ReportReference
from dicom_io.uids import derive_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_io.report.source import SourceImage


@dataclass(frozen=True, slots=True)
class CompanionContent:
    """What a companion shows and what its identity derives from.

    Attributes
    ----------
    image : ReportedImage
        One image of the report, with an answer.
    number : int
        Its place among the companions of the same kind, from 1.
    report : ReportReference
        The report that says the same in words.
    algorithm : Algorithm
        Whose result it is.
    content_datetime : datetime
        As the report's.
    heat : numpy.ndarray, optional
        float32, shape of the image, 0..1: laid over the marked image.
    """

    image: ReportedImage
    number: int
    report: ReportReference
    algorithm: Algorithm
    content_datetime: datetime
    heat: NDArray[np.float32] | None = None


def companion_reference(
    kind: str, sop_class_uid: str, content: CompanionContent, source: SourceImage
) -> ReportReference:
    """Derive a companion's identity from its report, its kind and the frame that it shows."""
    heat = ("heat",) if content.heat is not None else ()
    frame = str(content.image.frame_number)
    return ReportReference(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=derive_uid(kind, content.report.sop_instance_uid, source.sop_instance_uid, frame, *heat),
        series_instance_uid=derive_uid(f"{kind}-series", content.report.series_instance_uid),
        study_instance_uid=content.report.study_instance_uid,
    )


def add_equipment(ds: Dataset, algorithm: Algorithm) -> None:
    """Name the maker as the report does (PS3.3 C.7.5.1)."""
    ds.Manufacturer = long_string(algorithm.manufacturer)
    ds.ManufacturerModelName = long_string(algorithm.name)
    ds.SoftwareVersions = ds.DeviceSerialNumber = long_string(algorithm.version)
    ds.DeviceUID = device_uid(algorithm)


def local_moment(content: CompanionContent, source: SourceImage) -> datetime:
    """Return the content date and time, in the time zone that the source declares."""
    return wall_clock(content.content_datetime, source.patient_and_study)
