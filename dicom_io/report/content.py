"""The content tree of the report: TID 1500 with one TID 1501 group an image and one TID 1410 group a box (PS3.16).

Coordinates. SCOORD's Graphic Data are (column, row) pairs in pixels with fractions: 0.0, 0.0 is the top left corner of
the first pixel, 0.5, 0.5 its centre, 1.0, 1.0 its bottom right corner, and (columns, rows) the bottom right corner of
the last pixel (PS3.3 C.18.6.1.2, drawn in Figure C.10.5-1; highdicom's `ImageToReferenceTransformer` says the same).
That is the convention of `dicom_io.types.Box` too, so a box's corners go into the report as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)

from dicom_io.report.codes import (
    ANALYSIS_STATUS,
    ARTIFICIAL_INTELLIGENCE,
    BOUNDED_BY,
    COMMENT,
    FRACTURE,
    LATERALITY,
    NO_UNITS,
    PLAIN_RADIOGRAPHY,
    PRESENCE,
    PROBABILITY,
    QUALITATIVE_EVALUATIONS,
    SUMMARY_OF_ANALYSES,
)
from dicom_io.report.text import plain
from dicom_io.report.words import DISCLAIMER, image_name, image_words, study_words
from dicom_io.types import Algorithm, Box, Outcome, ReportedImage
from dicom_io.uids import derive_uid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_io.report.source import SourceImage

LIBRARY_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
"""Classes that have a modality in CID 29; a Secondary Capture has none."""
REGION_COMMENT = "Score of this region, between 0 and 1: an estimate, not a diagnosis."


@dataclass(frozen=True)
class ReportedEntry:
    """One image of the report with its source, its name in words and its tracking identifiers."""

    image: ReportedImage
    source: SourceImage
    name: str
    tracking_uid: str

    @property
    def frames(self) -> list[int] | None:
        """The frame to reference; None for a single-frame image and where the whole instance is meant."""
        return [self.image.frame_number] if self.source.number_of_frames > 1 and self.image.frame_number else None


def make_entries(images: Sequence[tuple[ReportedImage, SourceImage]], report_uid: str) -> list[ReportedEntry]:
    """Name and number the images of a report."""
    return [
        ReportedEntry(
            image,
            source,
            image_name(number, len(images), source, image.frame_number),
            derive_uid("tracking", report_uid, source.sop_instance_uid, str(image.frame_number)),
        )
        for number, (image, source) in enumerate(images, start=1)
    ]


def measurement_report(entries: Sequence[ReportedEntry], outcome: Outcome, algorithm: Algorithm) -> Any:
    """Build the content tree (TID 1500).

    Returns
    -------
    highdicom.sr.MeasurementReport
        Its image library is left out where the mandatory attributes of TID 1602 and TID 1603 are missing in any image.
    """
    groups: list[Any] = []
    for entry in entries:
        if not entry.source.is_image:
            continue  # named in words only
        groups.append(_image_group(entry, algorithm))
        groups.extend(_region_group(entry, number, algorithm) for number in range(1, len(entry.image.boxes) + 1))
    tree = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(algorithm)),
        procedure_reported=PLAIN_RADIOGRAPHY,
        imaging_measurements=groups,
        referenced_images=_library_images(entries),
    )
    tree[0].ContentSequence.append(_summary(entries, outcome))
    return tree


def _observer(algorithm: Algorithm) -> Any:
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(algorithm),
            name=plain(algorithm.name),
            manufacturer_name=plain(algorithm.manufacturer),
            model_name=plain(algorithm.name),
            # TID 1004 has no row for a version. The serial number tells one make of a model from the next, as in the
            # report's equipment, from which it takes its default.
            serial_number=plain(algorithm.version),
        ),
    )


def device_uid(algorithm: Algorithm) -> str:
    """Return the Device Observer UID: the same for every report and every version of one algorithm."""
    return derive_uid("device", algorithm.manufacturer, algorithm.name)


def _algorithm(algorithm: Algorithm) -> Any:
    return AlgorithmIdentification(
        name=plain(algorithm.name),
        version=plain(algorithm.version),
        manufacturer=plain(algorithm.manufacturer),
        parameters=[plain(line) for line in algorithm.parameters] or None,
        family=ARTIFICIAL_INTELLIGENCE,
    )


def _image_group(entry: ReportedEntry, algorithm: Algorithm) -> Any:
    """Build the TID 1501 group of one image; without an answer it has neither finding nor presence."""
    image, source = entry.image, entry.source
    analysed = image.probability is not None
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=entry.tracking_uid, identifier=entry.name),
        finding_type=FRACTURE if analysed else None,
        finding_sites=_finding_sites(source),
        algorithm_id=_algorithm(algorithm),
        measurements=[_probability(image.probability)] if image.probability is not None else None,
        qualitative_evaluations=[
            QualitativeEvaluation(FRACTURE, PRESENCE[image.outcome])
            if analysed
            else QualitativeEvaluation(SUMMARY_OF_ANALYSES, ANALYSIS_STATUS[image.outcome])
        ],
        source_images=[
            SourceImageForMeasurementGroup(source.sop_class_uid, source.sop_instance_uid, entry.frames),
        ],
    )
    group[0].ContentSequence.append(_comment(image_words(image)))
    return group


def _region_group(entry: ReportedEntry, number: int, algorithm: Algorithm) -> Any:
    """Build the TID 1410 group of one box."""
    source, box = entry.source, entry.image.boxes[number - 1]
    region = ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=box_outline(box, source),
        source_image=SourceImageForRegion(source.sop_class_uid, source.sop_instance_uid, entry.frames),
    )
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derive_uid("region", entry.tracking_uid, str(number)),
            identifier=f"{entry.name}: region {number} of {len(entry.image.boxes)}",
        ),
        referenced_region=region,
        finding_type=FRACTURE,
        finding_sites=_finding_sites(source),
        algorithm_id=_algorithm(algorithm),
        measurements=[_probability(box.score)],
        geometric_purpose=BOUNDED_BY,
    )
    group[0].ContentSequence.append(_comment(REGION_COMMENT))
    return group


def box_outline(box: Box, source: SourceImage) -> Any:
    """Return the corners of a box, clockwise from the top left one and back to it: shape (5, 2), (column, row).

    Graphic Data may not leave the image (PS3.3 C.10.5.1.2), not even by an error of rounding.
    """
    x1, x2 = np.clip((box.x1, box.x2), 0, source.columns)
    y1, y2 = np.clip((box.y1, box.y2), 0, source.rows)
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]], dtype=np.float64)


def _probability(value: float) -> Any:
    return Measurement(name=PROBABILITY, value=round(float(value), 4), unit=NO_UNITS)


def _finding_sites(source: SourceImage) -> list[Any] | None:
    if source.site is None:
        return None
    laterality = LATERALITY.get(source.laterality)
    return [FindingSite(anatomic_location=source.site, laterality=laterality)]


def _comment(words: str) -> Any:
    return TextContentItem(name=COMMENT, value=words, relationship_type=RelationshipTypeValues.CONTAINS)


def _summary(entries: Sequence[ReportedEntry], outcome: Outcome) -> Any:
    """Build the text of the report: TID 1500 rows 12 and 14, the only place where it has free text."""
    container = ContainerContentItem(
        name=CodedConcept.from_code(QUALITATIVE_EVALUATIONS), relationship_type=RelationshipTypeValues.CONTAINS
    )
    lines = [DISCLAIMER, study_words(outcome, [entry.image for entry in entries])]
    lines += [f"{entry.name}: {image_words(entry.image)}" for entry in entries]
    container.ContentSequence = ContentSequence([_comment(line) for line in lines])
    return container


def _library_images(entries: Sequence[ReportedEntry]) -> list[Dataset] | None:
    """Return each source once as TID 1602 wants it; None when one of them lacks a mandatory attribute."""
    sources = {entry.source.sop_instance_uid: entry.source for entry in entries if entry.source.is_image}.values()
    if not all(source.rows and source.columns and source.sop_class_uid in LIBRARY_CLASSES for source in sources):
        return None
    # highdicom writes TID 1603 for every projection radiograph, and its rows have no condition: orientation and
    # spacing are mandatory, though CR and DX may have neither.
    if not all(source.patient_orientation and source.imager_pixel_spacing for source in sources):
        return None
    return [_library_image(source) for source in sources]


def _library_image(source: SourceImage) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = source.sop_class_uid
    ds.SOPInstanceUID = source.sop_instance_uid
    ds.Modality = "DX"  # makes highdicom write TID 1603; the coded modality follows the SOP class
    ds.Rows, ds.Columns = source.rows, source.columns
    ds.PatientOrientation = list(source.patient_orientation)
    ds.ImagerPixelSpacing = list(source.imager_pixel_spacing)
    return ds
