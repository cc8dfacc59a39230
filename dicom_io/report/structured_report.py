"""The report: what was found in a study, as a DICOM Structured Report inside that study (PS3.3 A.35, PS3.16 TID 1500).

Everything derives from its content. Building twice gives the same bytes, so a report that is sent again is the same
object to the PACS and not a second one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from highdicom.sr import Comprehensive3DSR
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, ExplicitVRLittleEndian

from dicom_io.errors import ReportError
from dicom_io.report.content import make_entries, measurement_report
from dicom_io.report.source import SourceImage, read_source
from dicom_io.report.text import long_string
from dicom_io.types import Algorithm, Outcome, ReportedImage, ReportReference
from dicom_io.uids import derive_uid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dicom_io.report.content import ReportedEntry

SERIES_NUMBER = 9101
"""Far behind the numbers that modalities give, so that a viewer lists the report after the images."""
INSTANCE_NUMBER = 1
SERIES_DESCRIPTION = "AI fracture report - not verified"
ROUNDING = 0.5
"""Pixels by which a box may reach beyond its image; the report then ends at the image's edge."""
WITHOUT_ANSWER = (Outcome.FAILED, Outcome.OUT_OF_SCOPE)


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report says and what its identity derives from.

    Attributes
    ----------
    images : tuple of ReportedImage
        At least one; all of one study and one patient. A frame number of 0 names an instance as a whole.
    outcome : Outcome
        The gravest of the images' outcomes.
    algorithm : Algorithm
        Whose result it is.
    analysis_digest : str
        Digest of the study's image contents.
    model_version : str
        With study and digest, the identity of the analysis.
    content_datetime : datetime
        When the answer was found. Written as the wall clock it shows; in the time zone of the source images where
        they name one and it is aware.
    patient_from : Path, optional
        The image that patient and order are taken over from, the newest; else the first that names a patient.
    predecessor : ReportReference, optional
        The report that this one replaces. It belongs to the identity: a revision is a new instance.
    """

    images: tuple[ReportedImage, ...]
    outcome: Outcome
    algorithm: Algorithm
    analysis_digest: str
    model_version: str
    content_datetime: datetime
    predecessor: ReportReference | None = None
    patient_from: Path | None = None


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """A report, marked image or presentation state as a Part 10 file, and what it is called."""

    reference: ReportReference
    part10: bytes


def build_report(content: ReportContent) -> BuiltObject:
    """Build a Comprehensive 3D SR.

    1. Read the sources' headers; they must be of one study and one patient.
    2. Check that the content does not contradict itself.
    3. Derive the UIDs, build the tree, wrap it in patient, study, series and equipment.

    Returns
    -------
    BuiltObject
        The same bytes for the same content and the same sources.

    Raises
    ------
    dicom_io.errors.ReportError
        When a source cannot be read, the sources do not belong together, or the content contradicts itself or them.
        Also for what nobody foresaw in a header: the answer is kept and the report's failure recorded.
    """
    try:
        return _built(content)
    except ReportError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom and highdicom raise anything on headers that break the standard
        # The name alone: the message may quote a header.
        raise ReportError(f"unexpected error ({type(error).__name__})") from None


def _built(content: ReportContent) -> BuiltObject:
    sources = {image.path: read_source(image.path) for image in content.images}
    pairs = [(image, sources[image.path]) for image in content.images]
    _check_content(content)
    _check_sources(list(sources.values()))
    for image, source in pairs:
        _check_image(image, source)
    _check_frames(pairs)
    reference = _reference(content, pairs[0][1].study_instance_uid)
    entries = make_entries(pairs, reference.sop_instance_uid)
    return BuiltObject(reference, encoded(_document(content, reference, entries)))


def as_comprehensive_sr(part10: bytes) -> BuiltObject:
    """Turn a Comprehensive 3D SR into a Comprehensive SR with the same tree, for a PACS that takes no other.

    Only the SOP class and the SOP Instance UID differ, which derives from the original's.

    Raises
    ------
    dicom_io.errors.ReportError
        When `part10` is not a Comprehensive 3D SR.
    """
    try:
        ds = dcmread(BytesIO(part10))
        original = str(ds.SOPInstanceUID)
        if ds.SOPClassUID != Comprehensive3DSRStorage:
            raise ReportError("only a Comprehensive 3D SR can become a Comprehensive SR")
        reference = ReportReference(
            sop_class_uid=str(ComprehensiveSRStorage),
            sop_instance_uid=derive_uid("comprehensive", original),
            series_instance_uid=str(ds.SeriesInstanceUID),
            study_instance_uid=str(ds.StudyInstanceUID),
        )
    except (InvalidDicomError, AttributeError, EOFError) as error:
        raise ReportError("only a Comprehensive 3D SR can become a Comprehensive SR") from error
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = reference.sop_class_uid
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = reference.sop_instance_uid
    return BuiltObject(reference, encoded(ds))


def _reference(content: ReportContent, study_instance_uid: str) -> ReportReference:
    """Derive the report's identity from study, image digest and model version, and from what it replaces."""
    replaced = (content.predecessor.sop_instance_uid,) if content.predecessor else ()
    return ReportReference(
        sop_class_uid=str(Comprehensive3DSRStorage),
        sop_instance_uid=derive_uid(
            "report", study_instance_uid, content.analysis_digest, content.model_version, *replaced
        ),
        series_instance_uid=derive_uid("report-series", study_instance_uid, content.model_version),
        study_instance_uid=study_instance_uid,
    )


def _check_content(content: ReportContent) -> None:
    if not content.images:
        raise ReportError("a report needs at least one image")
    gravest = next(outcome for outcome in Outcome if any(image.outcome is outcome for image in content.images))
    if content.outcome is not gravest:
        raise ReportError(f"the study's outcome {content.outcome} is not the gravest of its images, {gravest}")


def _check_sources(sources: Sequence[SourceImage]) -> None:
    if len({source.study_instance_uid for source in sources}) > 1:
        raise ReportError("the images belong to more than one study")
    # An image without an identifier is no other patient's: the Study Instance UID says whose it is.
    if len({source.patient_id_as_sent for source in sources} - {b""}) > 1:
        raise ReportError("the images belong to more than one patient")
    if not any(source.is_image for source in sources):
        raise ReportError("there is no image that a report could refer to")


def _check_frames(pairs: Sequence[tuple[ReportedImage, SourceImage]]) -> None:
    frames = [(source.sop_instance_uid, image.frame_number) for image, source in pairs]
    if len(set(frames)) < len(frames):
        raise ReportError("an image is reported twice")


def _check_image(image: ReportedImage, source: SourceImage) -> None:
    """Refuse what would make a report wrong: better none than one that misleads."""
    if (image.probability is None) is not (image.outcome in WITHOUT_ANSWER):
        raise ReportError(f"an image has an outcome of {image.outcome} and a probability that contradicts it")
    if image.probability is not None and not source.is_image:
        raise ReportError("an answer was given for an instance that is no image")
    if image.probability is not None and not 0 <= image.probability <= 1:
        raise ReportError("a probability is outside 0..1")
    if image.boxes and image.outcome in (*WITHOUT_ANSWER, Outcome.ABSENT):
        raise ReportError(f"an image has an outcome of {image.outcome} and boxes that contradict it")
    if not 0 <= image.frame_number <= source.number_of_frames:
        raise ReportError(f"there is no frame {image.frame_number} in an image of {source.number_of_frames}")
    for box in image.boxes:
        if source.rows is None or source.columns is None:
            raise ReportError("an image with boxes does not say how large it is")
        inside = (
            -ROUNDING <= box.x1 < box.x2 <= source.columns + ROUNDING
            and -ROUNDING <= box.y1 < box.y2 <= source.rows + ROUNDING
        )
        if not inside or not math.isfinite(box.score) or not 0 <= box.score <= 1:
            raise ReportError("a box reaches beyond its image, has no area, or a score outside 0..1")


def _document(content: ReportContent, reference: ReportReference, entries: Sequence[ReportedEntry]) -> Dataset:
    (root,) = measurement_report(entries, content.outcome, content.algorithm)
    # highdicom copies all that it is given, converts the copy and walks it twice: half of a report's cost, to see that
    # each image in the tree is in the evidence. Both are made from `entries` here; so it is given the root alone.
    children, root.ContentSequence = root.ContentSequence, []
    shared = _patient_source(content, entries).patient_and_study
    moment = wall_clock(content.content_datetime, shared)
    ds = Comprehensive3DSR(
        evidence=_evidence(entries),
        content=root,
        series_instance_uid=reference.series_instance_uid,
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=reference.sop_instance_uid,
        instance_number=INSTANCE_NUMBER,
        content_date=moment.date(),
        content_time=moment.time(),
        manufacturer=long_string(content.algorithm.manufacturer),
        manufacturer_model_name=long_string(content.algorithm.name),
        software_versions=long_string(content.algorithm.version),
        device_serial_number=long_string(content.algorithm.version),
        is_complete=True,
        is_verified=False,
        is_final=False,
        previous_versions=[_predecessor(content.predecessor)] if content.predecessor else None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    ds.ContentSequence = children
    ds.InstanceCreationDate, ds.InstanceCreationTime = ds.ContentDate, ds.ContentTime
    # highdicom names itself here with the time of day, which would make every build another file.
    del ds.ContributingEquipmentSequence
    ds.update(shared)
    return ds


def _patient_source(content: ReportContent, entries: Sequence[ReportedEntry]) -> SourceImage:
    identified = [entry for entry in entries if entry.source.patient_id_as_sent] or [entries[0]]
    newest = [entry for entry in identified if entry.image.path == content.patient_from]
    return (newest or identified)[0].source


def wall_clock(moment: datetime, shared: Dataset) -> datetime:
    """Express a moment in the time zone that the source's Timezone Offset From UTC declares for all its times."""
    offset = shared.get("TimezoneOffsetFromUTC")
    if offset and moment.tzinfo is not None:
        moment = moment.astimezone(datetime.strptime(offset, "%z").tzinfo)
    return moment.replace(tzinfo=None)


def _predecessor(reference: ReportReference) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = reference.sop_class_uid
    ds.SOPInstanceUID = reference.sop_instance_uid
    ds.SeriesInstanceUID = reference.series_instance_uid
    ds.StudyInstanceUID = reference.study_instance_uid
    return ds


def _evidence(entries: Sequence[ReportedEntry]) -> list[Dataset]:
    """Reduce the sources to what highdicom needs; patient and study are put in afterwards."""
    evidence: dict[str, Dataset] = {}
    for source in (entry.source for entry in entries if entry.source.is_image):
        ds = Dataset()
        ds.SOPClassUID = source.sop_class_uid
        ds.SOPInstanceUID = source.sop_instance_uid
        ds.SeriesInstanceUID = source.series_instance_uid
        ds.StudyInstanceUID = source.study_instance_uid
        ds.PatientName = ds.PatientID = ds.PatientSex = ds.AccessionNumber = ds.StudyID = ""
        ds.PatientBirthDate = ds.StudyDate = ds.StudyTime = None
        evidence[source.sop_instance_uid] = ds
    return list(evidence.values())


def encoded(ds: Any) -> bytes:
    """Return a data set that has its file meta information as a Part 10 file."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
