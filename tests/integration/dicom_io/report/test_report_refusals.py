"""What cannot be reported on: contradictions, two patients, nothing. Nothing is written then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_io.errors import ReportError
from dicom_io.report.structured_report import as_comprehensive_sr
from dicom_io.types import Box, Outcome
from tests.builders import build_dx
from tests.reporting import BOXES, build_report, content_of, reported, stored, with_raw


@pytest.fixture(scope="module")
def dx(tmp_path_factory):
    return stored(build_dx(), tmp_path_factory.mktemp("dx"))


@pytest.mark.parametrize("part10", [b"", b"not dicom at all", b"\0" * 200])
def test_what_is_no_report_cannot_become_the_other_class(part10):
    with pytest.raises(ReportError):
        as_comprehensive_sr(part10)


def test_a_comprehensive_sr_is_not_turned_twice(dx):
    other = as_comprehensive_sr(build_report(content_of(reported(dx, Outcome.ABSENT))).part10)
    with pytest.raises(ReportError):
        as_comprehensive_sr(other.part10)


def test_images_of_two_studies_are_refused(tmp_path):
    a, b = stored(build_dx(), tmp_path, "a"), stored(build_dx(study="other"), tmp_path, "b")
    with pytest.raises(ReportError, match="more than one study"):
        build_report(content_of(reported(a, Outcome.ABSENT), reported(b, Outcome.ABSENT)))


def test_images_of_two_patients_are_refused(tmp_path):
    a, b = stored(build_dx(), tmp_path, "a"), stored(build_dx(instance="b", PatientID="TEST-0002"), tmp_path, "b")
    with pytest.raises(ReportError, match="more than one patient"):
        build_report(content_of(reported(a, Outcome.ABSENT), reported(b, Outcome.ABSENT)))


def test_patients_whose_identifiers_differ_behind_the_64th_character_are_two(tmp_path):
    a = stored(with_raw(build_dx(), PatientID=b"9" * 64 + b"A"), tmp_path, "a")
    b = stored(with_raw(build_dx(instance="b"), PatientID=b"9" * 64 + b"B"), tmp_path, "b")
    with pytest.raises(ReportError, match="more than one patient"):
        build_report(content_of(reported(a, Outcome.ABSENT), reported(b, Outcome.ABSENT)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": ()}, "at least one image"),
        ({"outcome": Outcome.ABSENT}, "gravest"),
    ],
)
def test_a_study_that_contradicts_its_images_is_refused(dx, changes, words):
    with pytest.raises(ReportError, match=words):
        build_report(replace(content_of(reported(dx, Outcome.FAILED)), **changes))


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [
        (Outcome.ABSENT, {"probability": None}),
        (Outcome.FAILED, {"probability": 0.1}),
        (Outcome.PRESENT, {"probability": 1.5}),
        (Outcome.PRESENT, {"probability": float("nan")}),
        (Outcome.ABSENT, {"boxes": BOXES[:1]}),
        (Outcome.FAILED, {"boxes": BOXES[:1]}),
        (Outcome.PRESENT, {"boxes": (Box(-1, 0, 5, 5, 0.5),)}),
        (Outcome.PRESENT, {"boxes": (Box(0, 0, 32.6, 5, 0.5),)}),
        (Outcome.PRESENT, {"boxes": (Box(0, 0, 5, 24.6, 0.5),)}),
        (Outcome.PRESENT, {"boxes": (Box(5, 0, 5, 5, 0.5),)}),
        (Outcome.PRESENT, {"boxes": (Box(0, 0, 5, float("nan"), 0.5),)}),
        (Outcome.PRESENT, {"boxes": (Box(0, 0, 5, 5, 1.01),)}),
        (Outcome.PRESENT, {"frame_number": 2}),
        (Outcome.PRESENT, {"frame_number": -1}),
    ],
)
def test_an_image_that_contradicts_itself_or_its_source_is_refused(dx, outcome, changes):
    with pytest.raises(ReportError):
        build_report(content_of(replace(reported(dx, outcome), **changes)))


def test_the_same_frame_twice_is_refused(dx):
    with pytest.raises(ReportError, match="twice"):
        build_report(content_of(reported(dx, Outcome.ABSENT), reported(dx, Outcome.ABSENT)))


def test_a_source_that_is_gone_is_refused_without_its_path(tmp_path):
    with pytest.raises(ReportError) as raised:
        build_report(content_of(reported(tmp_path / "SECRET.dcm", Outcome.ABSENT)))
    assert "SECRET" not in str(raised.value)


def test_a_report_on_a_report_alone_is_refused(dx, tmp_path):
    report = tmp_path / "report.dcm"
    report.write_bytes(build_report(content_of(reported(dx, Outcome.ABSENT))).part10)
    with pytest.raises(ReportError, match="no image"):
        build_report(content_of(reported(report, Outcome.OUT_OF_SCOPE)))
