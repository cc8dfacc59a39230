"""The presentation state: boxes and scores over the untouched image, for a viewer to draw (PS3.3 A.33.1).

One for each frame, because the rescale and the polarity of a presentation state hold for all images that it refers to,
and those of a study may differ. A viewer that opens it shows the frame as the model saw it.

Coordinates. Graphic Data in PIXEL units are (column, row) with fractions: 0.0, 0.0 is the top left corner of the first
pixel and (columns, rows) the bottom right corner of the last (PS3.3 C.10.5.1.1, Figure C.10.5-1). That is the
convention of `dicom_io.types.Box` and of the report, so the corners are the report's.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from highdicom import VOILUT, ModalityLUTTransformation, PresentationLUTTransformation
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextJustificationValues,
    TextObject,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, GrayscaleSoftcopyPresentationStateStorage

from dicom_io.errors import ReportError
from dicom_io.pixels.frames import DisplayedFrame
from dicom_io.pixels.grayscale import Softcopy
from dicom_io.report.companion import CompanionContent, add_equipment, companion_reference, local_moment
from dicom_io.report.content import box_outline
from dicom_io.report.source import SourceImage, read_source
from dicom_io.report.structured_report import BuiltObject, encoded
from dicom_io.report.text import long_string, plain
from dicom_io.report.words import image_words

SERIES_NUMBER = 9103
SERIES_DESCRIPTION = "AI marks - not for diagnosis"
LABEL = "AI FRACTURE"
DESCRIPTION = "AI result, not for diagnosis"
LAYER = GraphicLayer("AI_RESULT", order=1, description="boxes and scores of an AI result")
CAPTION = (0.02, 0.02, 0.98, 0.14)
"""Where the caption stands: left, top, right, bottom, in shares of the displayed area; it has three lines."""
SCORE_HEIGHT, SCORE_WIDTH = 0.03, 0.09
"""The place of a score, in shares of the longer side of the image as it is displayed."""


def build_presentation(content: CompanionContent, shown: DisplayedFrame) -> BuiltObject:
    """Build the presentation state of one frame in shades of grey.

    Parameters
    ----------
    content : dicom_io.report.companion.CompanionContent
        An image of the report with at least one box.
    shown : dicom_io.pixels.frames.DisplayedFrame
        The same frame, read from the same file.

    Returns
    -------
    dicom_io.report.structured_report.BuiltObject
        The same bytes for the same content.

    Raises
    ------
    dicom_io.errors.ReportError
        When the source cannot be read, or is in colour, which this class cannot refer to.
    """
    if shown.softcopy is None:
        raise ReportError("a grayscale presentation state cannot be made of a colour image")
    source = read_source(content.image.path)
    reference = companion_reference("presentation", str(GrayscaleSoftcopyPresentationStateStorage), content, source)
    image = _referenced(source, shown)
    ds = GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        series_instance_uid=reference.series_instance_uid,
        series_number=SERIES_NUMBER,
        sop_instance_uid=reference.sop_instance_uid,
        instance_number=content.number,
        manufacturer=long_string(content.algorithm.manufacturer),
        manufacturer_model_name=long_string(content.algorithm.name),
        software_versions=long_string(content.algorithm.version),
        device_serial_number=long_string(content.algorithm.version),
        content_label=LABEL,
        content_description=DESCRIPTION,
        graphic_layers=[LAYER],
        graphic_annotations=_annotations(content, source, image, shown.aspect),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **_transformations(shown.softcopy),
    )
    _finish(ds, content, source, shown)
    return BuiltObject(reference, encoded(ds))


def _referenced(source: SourceImage, shown: DisplayedFrame) -> Dataset:
    """Reduce the source to what highdicom needs; patient and study are put in afterwards."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    ds.SeriesInstanceUID, ds.StudyInstanceUID = source.series_instance_uid, source.study_instance_uid
    ds.Rows, ds.Columns = shown.pixels.shape
    ds.SamplesPerPixel = 1
    ds.PatientName = ds.PatientID = ds.PatientSex = ds.AccessionNumber = ds.StudyID = ""
    ds.PatientBirthDate = ds.StudyDate = ds.StudyTime = None
    return ds


def _annotations(
    content: CompanionContent, source: SourceImage, image: Dataset, aspect: float
) -> list[GraphicAnnotation]:
    outlines = [box_outline(box, source) for box in content.image.boxes]
    objects = [GraphicObject(GraphicTypeValues.POLYLINE, outline, AnnotationUnitsValues.PIXEL) for outline in outlines]
    scores = [
        TextObject(
            text_value=f"{box.score:.2f}",
            units=AnnotationUnitsValues.PIXEL,
            bounding_box=_place_of_score(outline, image.Rows, image.Columns, aspect),
            text_justification=TextJustificationValues.LEFT,
        )
        for box, outline in zip(content.image.boxes, outlines, strict=True)
    ]
    answer, _, _ = image_words(content.image).partition(". ")
    numbers = f"numbers: region scores, 0 to 1; model {plain(content.algorithm.version)}"
    caption = TextObject(
        text_value=f"{DESCRIPTION}\r\n{answer.rstrip('.')}\r\n{numbers}",
        units=AnnotationUnitsValues.DISPLAY,
        bounding_box=CAPTION,
    )
    return [GraphicAnnotation([image], LAYER, graphic_objects=objects, text_objects=[*scores, caption])]


def _place_of_score(
    outline: NDArray[np.float64], rows: int, columns: int, aspect: float
) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom in PIXEL units; `aspect` is a pixel's height by its width.

    It stands on the outline; below, where the image ends above it; inside, where it ends below as well. An anchor point
    alone leaves it to the viewer how far off a text stands.
    """
    longest = max(rows * aspect, columns)
    height, width = SCORE_HEIGHT * longest / aspect, SCORE_WIDTH * longest
    left, top = outline.min(axis=0)
    bottom = outline[:, 1].max()
    left = min(left, max(0.0, columns - width))
    upper = top - height if top >= height else min(bottom, max(0.0, rows - height))
    return float(left), float(upper), float(min(left + width, columns)), float(min(upper + height, rows))


def _transformations(softcopy: Softcopy) -> dict[str, Any]:
    """Return the grayscale transformations in highdicom's terms (PS3.3 C.11.1, C.11.8, C.11.6)."""
    if softcopy.window is not None:
        centre, width, function = softcopy.window
        voi = SoftcopyVOILUTTransformation(
            window_center=_decimal(centre), window_width=_decimal(width), voi_lut_function=function
        )
    else:
        voi = SoftcopyVOILUTTransformation(voi_luts=[VOILUT(0, np.asarray(softcopy.table, dtype=np.uint16))])
    return {
        "modality_lut_transformation": ModalityLUTTransformation(
            rescale_intercept=_decimal(softcopy.intercept), rescale_slope=_decimal(softcopy.slope), rescale_type="US"
        ),
        "voi_lut_transformations": [voi],
        "presentation_lut_transformation": PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if softcopy.inverted else "IDENTITY"
        ),
    }


def _decimal(value: float) -> float:
    """Round to what a DS of 16 characters can hold (PS3.5 6.2)."""
    return float(f"{value:.9g}")


def _finish(ds: Any, content: CompanionContent, source: SourceImage, shown: DisplayedFrame) -> None:
    moment = local_moment(content, source)
    ds.PresentationCreationDate = ds.InstanceCreationDate = moment.strftime("%Y%m%d")
    ds.PresentationCreationTime = ds.InstanceCreationTime = moment.strftime("%H%M%S")
    ds.SeriesDescription = SERIES_DESCRIPTION
    ds.ContentCreatorName = ""
    # Type 2C, for paired body parts, and a presentation state has no Image Laterality instead (PS3.3 C.7.3.1).
    ds.Laterality = source.laterality if source.laterality in ("R", "L") else ""
    (area,) = ds.DisplayedAreaSelectionSequence
    area.PresentationPixelAspectRatio = _whole_ratio(shown.aspect)
    add_equipment(ds, content.algorithm)
    # highdicom names itself here with the time of day, which would make every build another file.
    if "ContributingEquipmentSequence" in ds:
        del ds.ContributingEquipmentSequence
    ds.update(source.patient_and_study)
    if source.number_of_frames > 1:
        _name_frame(ds, content.image.frame_number)


def _name_frame(ds: Any, frame_number: int) -> None:
    """Say which frame is meant; highdicom refuses that for a class that should have but one frame and has more."""
    references = [ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0]]
    references += [each.ReferencedImageSequence[0] for each in ds.GraphicAnnotationSequence]
    for reference in references:
        reference.ReferencedFrameNumber = frame_number


def _whole_ratio(aspect: float) -> list[int]:
    """Return the height and the width of a pixel as whole numbers (PS3.3 C.7.6.3.1.7)."""
    # Numbers no larger than they must be: there are viewers that take them for millimetres.
    ratio = Fraction(aspect).limit_denominator(1000)
    return [ratio.numerator, ratio.denominator]
