"""Inputs as hospitals send them, one file each (tests/data/field), and the right value for each."""

from __future__ import annotations

import functools
import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from dicom_io.errors import PixelError
from dicom_io.header.header import read_header
from dicom_io.header.scope import LIMBS_HIPS_SHOULDERS, ScopeRule, out_of_scope_reason
from dicom_io.pixels.display_attributes import LookupTable, read_display_attributes
from dicom_io.pixels.frames import read_frames
from dicom_io.pixels.limits import PixelLimits, read_layout
from dicom_io.report.source import read_source
from dicom_io.types import Algorithm, Frame, Outcome
from models.analyzer import Analyzer
from models.bundle import load_bundle
from tests.product import ROOT
from worker.files.analyze import AnalysisContext, FileResult, analyze_file
from worker.files.candidates import select
from worker.files.output import Output

FIELD = ROOT / "tests" / "data" / "field"
NORMAL = ROOT / "deploy" / "samples" / "02-hand-negative-dx" / "image-1.dcm"
POSITIVE = FIELD / "base-positive.dcm"
SAME = 0.002
"""The most by which two frames of one image differ."""


@functools.cache
def frame_of(path: Path) -> Frame:
    return next(read_frames(path))


def assert_same_frame(one: Path, other: Path) -> None:
    np.testing.assert_allclose(frame_of(one).pixels, frame_of(other).pixels, atol=SAME)


@pytest.fixture(scope="module")
def context() -> AnalysisContext:
    analyzer = Analyzer(load_bundle(), device="cpu")
    return AnalysisContext(lambda: analyzer, ScopeRule(accept_unknown_body_part=True))


def result_of(path: Path, context: AnalysisContext) -> FileResult:
    (candidate,) = select([path]).candidates
    return analyze_file(candidate, context)


@pytest.mark.parametrize(
    "name",
    [
        "ars-only-sct",
        "window-decimal-comma",
        "voilut-empty-item",
        "voilut-no-data-but-window",
        "pi-lower",
        "j2k-trailing-zeros",
        "jpll-trailing-zeros",
        "jp2-boxes-behind",
        "jls-zero-before-eoi",
        "spacing-vr-ut",
    ],
)
def test_the_model_gets_the_picture_of_the_normal_hand(name: str) -> None:
    assert_same_frame(FIELD / f"{name}.dcm", NORMAL)


@pytest.mark.parametrize(
    "name",
    [
        "rescale-decimal-comma",
        "rescale-slope-zero",
        "jpeg-8-in-16",
    ],
)
def test_the_picture_is_decoded(name: str) -> None:
    """The window of these files is the normal hand's, their grey values are not: the shape of the hand decides."""
    pixels, normal = frame_of(FIELD / f"{name}.dcm").pixels, frame_of(NORMAL).pixels

    assert pixels.shape == normal.shape
    assert np.corrcoef(pixels.ravel(), normal.ravel())[0, 1] > 0.9


def test_values_above_bits_stored_are_no_picture_or_the_right_one() -> None:
    path = FIELD / "bits10.dcm"
    try:
        frame_of(path)
    except PixelError as error:
        assert "Bits Stored" in str(error)  # noqa: PT017 - either answer is right
    else:
        assert_same_frame(path, NORMAL)


def test_the_first_value_of_a_lookup_table_over_unsigned_pixels_is_unsigned(context: AnalysisContext) -> None:
    """Its VR is SS and its first value -25536, that is 40000: 92 % of the pixels lie below what the table shows.

    So the table is read rightly, and then left aside, for it would leave the hand in the dark.
    """
    path = FIELD / "voilut-first-40000-ss.dcm"
    ds = pydicom.dcmread(path)
    (table,) = read_display_attributes(ds, read_layout(ds, PixelLimits())).voi

    assert isinstance(table, LookupTable)
    assert table.first == 40000
    assert np.corrcoef(frame_of(path).pixels.ravel(), frame_of(NORMAL).pixels.ravel())[0, 1] > 0.99
    result = result_of(path, context)
    assert result.outcome is result_of(NORMAL, context).outcome is Outcome.ABSENT
    assert "VOI LUT" in " ".join(result.frames[0].warnings)


def test_the_sign_of_the_padding_value_is_that_of_the_pixels(context: AnalysisContext) -> None:
    one, other = FIELD / "padding-us-65535.dcm", FIELD / "padding-ss-minus1.dcm"

    assert_same_frame(one, other)
    assert result_of(other, context).outcome is Outcome.PRESENT


def test_a_hand_that_only_the_anatomic_region_names_is_analysed() -> None:
    header = read_header(FIELD / "ars-only-sct.dcm")

    assert out_of_scope_reason(header, ScopeRule()) is None
    assert header.body_part_examined == "HAND"


def test_a_chest_that_only_the_anatomic_region_names_is_out_of_scope_whatever_is_permitted() -> None:
    header = read_header(FIELD / "ars-chest-only.dcm")

    assert "HAND" in LIMBS_HIPS_SHOULDERS
    assert "CHEST" in str(out_of_scope_reason(header, ScopeRule(accept_unknown_body_part=True))).upper()


def test_a_missing_attribute_is_named() -> None:
    with pytest.raises(PixelError, match=r"Samples ?per ?Pixel"):
        frame_of(FIELD / "missing-module.dcm")


def test_a_spacing_in_a_wrong_value_representation_is_read() -> None:
    assert frame_of(FIELD / "spacing-vr-ut.dcm").spacing_mm is not None


def test_a_date_with_hyphens_is_the_same_in_sql_and_report() -> None:
    path = FIELD / "dates-wrong.dcm"

    assert read_header(path).study_date == "20240305"
    assert read_source(path).patient_and_study.StudyDate == "20240305"


def test_an_identifier_in_utf_8_under_a_misspelt_term_is_the_same_in_sql_and_report() -> None:
    path = FIELD / "id-utf8-wrong-term.dcm"

    assert read_header(path).patient_id == "ID-äöü"
    assert read_source(path).patient_and_study.PatientID == "ID-äöü"


def test_a_turned_photograph_gets_the_answer_and_the_boxes_of_the_upright_one(context: AnalysisContext) -> None:
    upright, turned = result_of(FIELD / "plain.jpg", context), result_of(FIELD / "exif6.jpg", context)

    assert upright.outcome is Outcome.PRESENT
    assert turned.outcome is upright.outcome
    assert upright.frame is not None
    assert turned.frame is not None
    assert turned.frame.probability == pytest.approx(upright.frame.probability, abs=0.02)
    for one, other in zip(turned.frame.boxes, upright.frame.boxes, strict=True):
        assert (one.x1, one.y1, one.x2, one.y2) == pytest.approx((other.x1, other.y1, other.x2, other.y2), abs=4)


@pytest.mark.parametrize("name", [pytest.param("voilut-agfa"), pytest.param("palette-16-holds-8")])
def test_what_is_answered_can_be_seen_in_the_marked_image(name: str, context: AnalysisContext, tmp_path: Path) -> None:
    result = result_of(FIELD / f"{name}.dcm", context)

    assert result.outcome in {Outcome.PRESENT, Outcome.INCONCLUSIVE}
    Output(tmp_path, Algorithm("bonewatch", "1", "bonewatch"), 0.5).write(result, Path("image"))
    shown = np.asarray(Image.open(tmp_path / "image.png").convert("L"))
    assert np.percentile(shown, 98) > 60
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        capture = pydicom.dcmread(io.BytesIO((tmp_path / "image.sc.dcm").read_bytes()))
    assert np.percentile(capture.pixel_array, 98) > 60


@pytest.mark.parametrize("name", ["noise-only", "one-pixel-differs"])
def test_what_is_no_radiograph_is_neither_absent_nor_present(name: str, context: AnalysisContext) -> None:
    result = result_of(FIELD / f"{name}.dcm", context)

    assert result.outcome in {Outcome.FAILED, Outcome.INCONCLUSIVE}
    assert result.reason
