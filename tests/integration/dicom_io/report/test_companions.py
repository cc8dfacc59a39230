"""Marked images and presentation states, read back with others' programs: dciodvfy, dcmpschk, dcmp2pgm and dcmj2pnm."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from dicom_io.errors import ReportError
from dicom_io.pixels.frames import read_displayed
from dicom_io.report.capture import build_capture
from dicom_io.report.companion import CompanionContent
from dicom_io.report.drawing import YELLOW, scale_for
from dicom_io.report.presentation import build_presentation
from dicom_io.report.structured_report import build_report
from dicom_io.types import Box, Outcome, ReportedImage
from tests.builders import build_cr, build_dx, build_sc, ramp, write_part10
from tests.peers import run
from tests.product import sample_files
from tests.reporting import ALGORITHM, MOMENT, content_of
from tests.reports import validator_errors

FRAMES = np.stack([ramp(90, 120), ramp(90, 120)[::-1], ramp(90, 120)])
LOOKUP = Dataset()
LOOKUP.LUTDescriptor, LOOKUP.LUTData = (
    [4096, 0, 16],
    (np.arange(4096, dtype=np.uint32) ** 2 >> 8).astype(np.uint16).tobytes(),
)
DARK_LOOKUP = Dataset()
DARK_LOOKUP.LUTDescriptor, DARK_LOOKUP.LUTData = [4096, 0, 16], np.arange(4096, dtype=np.uint16).tobytes()


def inverted(**overrides):
    return build_dx(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **overrides)


def multi_frame():
    return build_sc(pixels=FRAMES, SOPClassUID=MultiFrameGrayscaleWordSecondaryCaptureImageStorage)


IMAGES = {
    "MONOCHROME1": inverted,
    "12 bits with a window": lambda: build_dx(WindowCenter=1500, WindowWidth=900),
    "12 bits without a window": lambda: build_cr(WindowCenter=None, WindowWidth=None),
    "several frames": multi_frame,
    "a window that leaves it nearly black": lambda: build_dx(WindowCenter=32768, WindowWidth=65536),
    "a sigmoid that leaves it nearly white": lambda: build_dx(
        WindowCenter=-8000, WindowWidth=16000, VOILUTFunction="SIGMOID"
    ),
    "a VOI lookup table of more bits than it uses": lambda: build_dx(
        VOILUTSequence=[DARK_LOOKUP], WindowCenter=None, WindowWidth=None
    ),
    "a VOI lookup table": lambda: build_dx(VOILUTSequence=[LOOKUP], WindowCenter=None, WindowWidth=None),
    "MONOCHROME1 with a lookup table": lambda: inverted(VOILUTSequence=[LOOKUP]),
}


def content(path: Path, frame: int = 1, boxes=None, outcome=Outcome.PRESENT, heat=None) -> CompanionContent:
    rows, columns = read_displayed(path, frame).pixels.shape
    boxes = (Box(columns * 0.25, rows * 0.5, columns * 0.75, rows * 0.875, 0.87),) if boxes is None else boxes
    image = ReportedImage(path, frame, outcome, 0.934, boxes)
    return CompanionContent(image, 1, build_report(content_of(image)).reference, ALGORITHM, MOMENT, heat)


def capture(path: Path, **arguments) -> Dataset:
    made = content(path, **arguments)
    return pydicom.dcmread(io.BytesIO(build_capture(made, read_displayed(path, made.image.frame_number)).part10))


@pytest.fixture(params=IMAGES)
def image(request, tmp_path) -> tuple[Path, int]:
    """Return a file of each kind, and the frame to show."""
    ds = IMAGES[request.param]()
    return write_part10(ds, tmp_path / "image.dcm"), 2 if "NumberOfFrames" in ds else 1


@pytest.mark.peer
def test_dciodvfy_finds_no_error_in_either(image, tmp_path):
    path, frame = image
    for build in (build_capture, build_presentation):
        (tmp_path / "made.dcm").write_bytes(build(content(path, frame), read_displayed(path, frame)).part10)
        assert validator_errors(tmp_path / "made.dcm") == []


@pytest.mark.peer
def test_dciodvfy_finds_no_error_for_any_sample(tmp_path):
    for path in sample_files():
        made, shown = content(path), read_displayed(path, 1)
        for build in (build_capture, build_presentation):
            (tmp_path / "made.dcm").write_bytes(build(made, shown).part10)
            assert validator_errors(tmp_path / "made.dcm") == [], path


@pytest.mark.peer
def test_dcmtk_shows_through_a_presentation_state_what_the_model_saw(image, tmp_path):
    path, frame = image
    shown = read_displayed(path, frame)
    state = tmp_path / "state.dcm"
    state.write_bytes(build_presentation(content(path, frame), shown).part10)

    run("dcmpschk", state)
    run("dcmp2pgm", "-p", state, "-f", frame, path, tmp_path / "shown.pgm")

    picture = cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_UNCHANGED).astype(np.float64)
    # DCMTK cuts off where we round, and its lookup tables have 8 bits.
    assert np.abs(picture - shown.pixels * 255).max() <= 2


@pytest.mark.peer
@pytest.mark.parametrize("heated", [False, True], ids=["without heat", "with heat"])
@pytest.mark.parametrize("shape", [(700, 800), (300, 400), (2400, 3200)], ids=["as large", "enlarged", "made smaller"])
def test_dcmtk_shows_the_marked_image_with_the_outline_on_its_box(shape, heated, tmp_path):
    path = write_part10(build_dx(pixels=ramp(*shape) // 2 + 1024), tmp_path / "image.dcm")
    made = content(path, heat=np.full(shape, 0.5, np.float32) if heated else None)
    (tmp_path / "made.dcm").write_bytes(build_capture(made, read_displayed(path, 1)).part10)

    run("dcmj2pnm", "--write-raw-pnm", tmp_path / "made.dcm", tmp_path / "shown.ppm")

    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "shown.ppm"), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)
    # Nothing is allowed for a codec: the pixels are stored uncompressed, and a binary PPM keeps 8 bits of RGB.
    assert np.array_equal(picture, pydicom.dcmread(tmp_path / "made.dcm").pixel_array)
    (box,), scale = made.image.boxes, picture.shape[1] / shape[1]
    assert outline_of(picture) == pytest.approx([value * scale for value in (box.x1, box.y1, box.x2, box.y2)], abs=1)


def outline_of(picture: np.ndarray) -> list[float]:
    """Return the middle of the yellow lines: left, top, right, bottom, in pixels of the image below the band.

    A line is what is yellow along a quarter of the picture; letters are not. The band is black in the last column.
    """
    image = picture[np.argmax(picture[:, -1].any(axis=1)) :]
    yellow = (image == YELLOW[::-1]).all(axis=2)
    found = []
    for axis, side in ((0, image.shape[0]), (1, image.shape[1])):
        lines = np.nonzero(yellow.sum(axis=axis) > side / 4)[0]
        assert lines.size, "no yellow line"
        low, high = lines[lines < lines.mean()], lines[lines > lines.mean()]
        found.append((low.mean() + 0.5, high.mean() + 0.5))
    (left, right), (top, bottom) = found
    return [left, top, right, bottom]


def test_a_presentation_state_has_the_corners_of_the_box_and_refers_to_its_frame(tmp_path):
    path = write_part10(multi_frame(), tmp_path / "image.dcm")
    ds = pydicom.dcmread(
        io.BytesIO(build_presentation(content(path, 2, (Box(10, 20.5, 30, 40, 0.9),)), read_displayed(path, 2)).part10)
    )
    (annotation,) = ds.GraphicAnnotationSequence
    (outline,) = annotation.GraphicObjectSequence

    assert outline.GraphicAnnotationUnits == "PIXEL"
    assert outline.GraphicData == [10, 20.5, 30, 20.5, 30, 40, 10, 40, 10, 20.5]
    assert annotation.ReferencedImageSequence[0].ReferencedFrameNumber == 2
    assert ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedFrameNumber == 2
    assert [text.UnformattedTextValue for text in annotation.TextObjectSequence] == [
        "0.90",
        "AI result, not for diagnosis\r\nPossible fracture, probability 0.93, 1 region marked\r\n"
        f"numbers: region scores, 0 to 1; model {ALGORITHM.version}",
    ]


@pytest.mark.parametrize(
    ("box", "place"),
    [
        (Box(100, 50, 140, 90, 0.9), (100, 38, 136, 50)),
        (Box(100, 5, 140, 90, 0.9), (100, 90, 136, 102)),
        (Box(380, 50, 400, 90, 0.9), (364, 38, 400, 50)),
        (Box(100, 5, 140, 298, 0.9), (100, 288, 136, 300)),
    ],
    ids=[
        "above the box",
        "below, at the image's top",
        "to the left, at its right",
        "inside, in a box as high as the image",
    ],
)
def test_a_score_has_a_place_of_its_own_at_its_box_and_inside_the_image(box, place, tmp_path):
    path = write_part10(build_dx(pixels=ramp(300, 400)), tmp_path / "image.dcm")
    state = pydicom.dcmread(io.BytesIO(build_presentation(content(path, boxes=(box,)), read_displayed(path, 1)).part10))
    score = state.GraphicAnnotationSequence[0].TextObjectSequence[0]
    assert "AnchorPoint" not in score
    corners = [*score.BoundingBoxTopLeftHandCorner, *score.BoundingBoxBottomRightHandCorner]
    assert (score.BoundingBoxAnnotationUnits, corners) == ("PIXEL", pytest.approx(place))


def test_a_score_is_displayed_as_high_where_pixels_are_not_square(tmp_path):
    path = write_part10(
        build_dx(pixels=ramp(300, 400), ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0.2, 0.1]), tmp_path / "image.dcm"
    )
    made = content(path, boxes=(Box(100, 50, 140, 90, 0.9),))
    state = pydicom.dcmread(io.BytesIO(build_presentation(made, read_displayed(path, 1)).part10))
    score = state.GraphicAnnotationSequence[0].TextObjectSequence[0]
    # Displayed it is 600 high: 18 of them are 9 rows.
    assert score.BoundingBoxTopLeftHandCorner == pytest.approx([100, 41])
    assert score.BoundingBoxBottomRightHandCorner == pytest.approx([154, 50])


def test_a_marked_image_is_yellow_where_the_box_lies_and_nowhere_else_inside(tmp_path):
    path = write_part10(build_dx(pixels=ramp(700, 800)), tmp_path / "image.dcm")
    box = Box(200, 300, 420, 460, 0.9)

    with_box, without = capture(path, boxes=(box,)).pixel_array, capture(path, boxes=()).pixel_array

    top = (np.nonzero((without == YELLOW[::-1]).all(axis=2))[0]).max() + 1  # the warning is the only yellow there
    image_top = int(np.argmax((without[:, 790] > 0).any(axis=1)))
    end = image_top + 700  # below it stand other words
    changed = np.argwhere((with_box[:end] != without[:end]).any(axis=2))
    rows, columns = changed[:, 0], changed[:, 1]
    assert top <= image_top
    assert columns.max() == pytest.approx(420, abs=3)
    assert columns.min() == pytest.approx(200, abs=3)
    assert rows.max() - image_top == pytest.approx(460, abs=4)


def test_a_marked_image_lies_in_the_patients_study_and_names_its_source(tmp_path):
    source = build_dx()
    made = capture(write_part10(source, tmp_path / "image.dcm"))

    assert (made.StudyInstanceUID, made.PatientID) == (source.StudyInstanceUID, source.PatientID)
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert (made.BurnedInAnnotation, made.ImageType, made.Modality) == ("YES", ["DERIVED", "SECONDARY"], "OT")
    assert made.SoftwareVersions == ALGORITHM.version


@pytest.mark.parametrize("build", [build_capture, build_presentation])
def test_building_twice_gives_the_same_object(build, tmp_path):
    path = write_part10(build_dx(), tmp_path / "image.dcm")
    assert build(content(path), read_displayed(path, 1)) == build(content(path), read_displayed(path, 1))


def test_each_kind_and_each_frame_is_another_object(tmp_path):
    path = write_part10(multi_frame(), tmp_path / "image.dcm")
    made = [
        build(content(path, frame), read_displayed(path, frame)).reference
        for build in (build_capture, build_presentation)
        for frame in (1, 2)
    ]
    assert len({each.sop_instance_uid for each in made}) == 4
    assert len({each.series_instance_uid for each in made}) == 2


def test_a_heat_map_makes_another_object_and_leaves_what_is_cold_grey(tmp_path):
    path = write_part10(build_dx(pixels=ramp(700, 800)), tmp_path / "image.dcm")
    heat = np.zeros((700, 800), np.float32)
    heat[100:200, 100:200] = 1

    warm, plain = capture(path, boxes=(), heat=heat), capture(path, boxes=())

    assert warm.SOPInstanceUID != plain.SOPInstanceUID
    assert "Grad-CAM" in warm.DerivationDescription
    changed = np.argwhere((warm.pixel_array != plain.pixel_array).any(axis=2))
    assert changed[:, 1].min() >= 98
    assert changed[:, 1].max() <= 201


def test_pixels_that_are_not_square_are_shown_as_high_and_wide_as_they_are(tmp_path):
    path = write_part10(build_dx(ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0.2, 0.1]), tmp_path / "image.dcm")
    shown = read_displayed(path, 1)
    along_columns, along_rows = scale_for(shown.pixels.shape, shown.aspect)

    state = pydicom.dcmread(io.BytesIO(build_presentation(content(path), shown).part10))

    assert along_rows / along_columns == pytest.approx(2)
    assert state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio == [2, 1]


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (1000, 50), (2100, 2800)])
def test_a_marked_image_of_any_size_is_legible_and_bounded(shape, tmp_path):
    made = capture(write_part10(build_dx(pixels=ramp(*shape)), tmp_path / "image.dcm"))
    warning = (made.pixel_array[:60] == YELLOW[::-1]).all(axis=2)
    letters = np.nonzero(warning.any(axis=1))[0]

    assert letters.max() - letters.min() >= 10, "letters of the warning, in pixels"
    assert 640 <= made.Columns <= 2048
    assert made.Rows <= 2048 + 300


def test_a_colour_image_has_a_marked_image_and_no_presentation_state(tmp_path):
    pixels = np.dstack([ramp(60, 80, bits=8).astype(np.uint8)] * 3)
    ds = build_sc(pixels=ramp(60, 80))
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelData = 7, pixels.tobytes()
    path = write_part10(ds, tmp_path / "image.dcm")

    assert capture(path).SamplesPerPixel == 3
    with pytest.raises(ReportError, match="colour"):
        build_presentation(content(path), read_displayed(path, 1))
