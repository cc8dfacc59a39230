"""The marked image: what a person would be shown, as a Secondary Capture in the patient's study (PS3.3 A.8).

The frame as displayed, its boxes with their scores, what it is and who made it are burned in. No identifying text of
the patient is drawn; what the radiograph itself shows stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dicom_io.pixels.frames import DisplayedFrame
from dicom_io.report.companion import CompanionContent, add_equipment, companion_reference, local_moment
from dicom_io.report.drawing import draw_marks, marks_of
from dicom_io.report.source import SourceImage, read_source
from dicom_io.report.structured_report import BuiltObject, encoded
from dicom_io.types import ReportReference

SERIES_NUMBER = 9102
"""Behind the report's."""
SERIES_DESCRIPTION = "AI marked images - not for diagnosis"
DERIVATION = "Scaled for display; boxes, scores and text of an AI result burned in. Not for diagnosis."
DERIVATION_WITH_HEAT = DERIVATION + " With a map of where the classifier's answer comes from (Grad-CAM)."


def build_capture(content: CompanionContent, shown: DisplayedFrame) -> BuiltObject:
    """Build the marked image of one frame.

    Parameters
    ----------
    content : dicom_io.report.companion.CompanionContent
        An image of the report with an answer.
    shown : dicom_io.pixels.frames.DisplayedFrame
        The same frame, read from the same file.

    Returns
    -------
    dicom_io.report.structured_report.BuiltObject
        The same bytes for the same content: RGB, 8 bits, uncompressed, so that every PACS can take and show it.

    Raises
    ------
    dicom_io.errors.ReportError
        When the source cannot be read.
    """
    source = read_source(content.image.path)
    reference = companion_reference("capture", str(SecondaryCaptureImageStorage), content, source)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = reference.sop_class_uid
    ds.file_meta.MediaStorageSOPInstanceUID = reference.sop_instance_uid
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _add_series(ds, content, reference, source)
    _add_image(ds, content, shown, source)
    _add_pixels(ds, content, shown)
    ds.update(source.patient_and_study)
    return BuiltObject(reference, encoded(ds))


def _add_series(ds: Dataset, content: CompanionContent, reference: ReportReference, source: SourceImage) -> None:
    moment = local_moment(content, source)
    ds.SOPClassUID, ds.SOPInstanceUID = reference.sop_class_uid, reference.sop_instance_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = reference.study_instance_uid, reference.series_instance_uid
    # Not the source's modality: nobody, and no program, should take it for a radiograph.
    ds.Modality = "OT"
    ds.SeriesNumber, ds.SeriesDescription = SERIES_NUMBER, SERIES_DESCRIPTION
    ds.Laterality = source.laterality if source.laterality in ("R", "L") else ""  # type 2C (PS3.3 C.7.3.1)
    if source.body_part:
        ds.BodyPartExamined = source.body_part
    add_equipment(ds, content.algorithm)
    ds.ConversionType = "WSD"
    ds.InstanceNumber = content.number
    ds.ContentDate = ds.InstanceCreationDate = ds.DateOfSecondaryCapture = moment.strftime("%Y%m%d")
    ds.ContentTime = ds.InstanceCreationTime = ds.TimeOfSecondaryCapture = moment.strftime("%H%M%S")


def _add_image(ds: Dataset, content: CompanionContent, shown: DisplayedFrame, source: SourceImage) -> None:
    """Say what the image was made of (PS3.3 C.7.6.1)."""
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = list(source.patient_orientation)
    # By the letter it is for text that identifies the patient. Whoever acts on it must look at these pixels: text is in
    # them, and the radiograph may have brought some of its own.
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = DERIVATION if content.heat is None else DERIVATION_WITH_HEAT
    if shown.lossy:
        ds.LossyImageCompression = "01"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    if source.number_of_frames > 1:
        item.ReferencedFrameNumber = content.image.frame_number
    item.SpatialLocationsPreserved = "NO"
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = (
        code.value,
        code.scheme_designator,
        code.meaning,
    )
    item.PurposeOfReferenceCodeSequence = [purpose]
    ds.SourceImageSequence = [item]


def _add_pixels(ds: Dataset, content: CompanionContent, shown: DisplayedFrame) -> None:
    marks = marks_of(content.image, content.algorithm.version, shown.aspect, shown.warnings)
    drawn = draw_marks(shown.pixels, replace(marks, heat=content.heat))
    picture = cv2.cvtColor(drawn, cv2.COLOR_BGR2RGB)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    data = np.ascontiguousarray(picture, dtype=np.uint8).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
