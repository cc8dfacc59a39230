"""What a report refers to: images, their frames, the evidence, and the image library where it may have one."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_io.types import Outcome
from tests.builders import build_cr, build_dx, build_sc, uid
from tests.reporting import build_report, content_of, reported, stored
from tests.reports import comments, concept, dataset, presence, tree, walk

ABSENT = "272519000"


@pytest.fixture(scope="module")
def dx(tmp_path_factory):
    return stored(build_dx(), tmp_path_factory.mktemp("dx"))


def test_frames_of_a_multi_frame_image_are_referenced_by_number(tmp_path):
    path = stored(build_sc(pixels=np.zeros((3, 24, 32), np.uint16)), tmp_path)
    images = [reported(path, Outcome.PRESENT, 1, frame=2), reported(path, Outcome.ABSENT, frame=3)]
    groups = tree(build_report(content_of(*images)))
    frames = [g.source_images[0].referenced_frame_numbers for g in groups.get_image_measurement_groups()]
    assert frames == [[2], [3]]
    (region,) = groups.get_planar_roi_measurement_groups()
    assert region.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == 2


def test_frame_zero_means_the_whole_instance(tmp_path):
    path = stored(build_sc(pixels=np.zeros((3, 24, 32), np.uint16)), tmp_path)
    (group,) = tree(build_report(content_of(reported(path, Outcome.FAILED, frame=0)))).get_image_measurement_groups()
    assert group.source_images[0].referenced_frame_numbers is None


def test_a_single_frame_image_is_referenced_without_a_frame_number(dx):
    assert b"ReferencedFrameNumber" not in build_report(content_of(reported(dx, Outcome.ABSENT))).part10
    (group,) = tree(build_report(content_of(reported(dx, Outcome.ABSENT)))).get_image_measurement_groups()
    assert group.source_images[0].referenced_frame_numbers is None


def has_image_library(report):
    return any(concept(item) == "111028" for item in walk(dataset(report)))


def test_a_complete_dx_gets_an_image_library(dx):
    assert has_image_library(build_report(content_of(reported(dx, Outcome.ABSENT))))


@pytest.mark.parametrize(
    "source",
    [
        build_dx(ImagerPixelSpacing=None),
        build_dx(PatientOrientation=None),
        build_dx(PatientOrientation=""),
        build_cr(),
        build_sc(),
    ],
)
def test_without_its_mandatory_attributes_the_image_library_is_left_out(tmp_path, source):
    report = build_report(content_of(reported(stored(source, tmp_path), Outcome.ABSENT)))
    assert not has_image_library(report)
    assert presence(report) == [ABSENT]


def test_every_image_is_in_the_evidence_even_without_a_finding(tmp_path):
    a, b = stored(build_dx(), tmp_path, "a"), stored(build_cr(series="cr"), tmp_path, "b")
    ds = dataset(build_report(content_of(reported(a, Outcome.ABSENT), reported(b, Outcome.FAILED))))
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    items = [item for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]
    named = {item.ReferencedSOPInstanceUID for item in items}
    assert named == {uid("study", "series", "instance"), uid("study", "cr", "instance")}


def test_whatever_the_tree_refers_to_is_in_the_evidence(dx, tmp_path):
    frames = [reported(stored(build_dx(instance="frames", NumberOfFrames=2), tmp_path), Outcome.PRESENT, 2, frame=2)]
    other = tmp_path / "report.dcm"
    other.write_bytes(build_report(content_of(reported(dx, Outcome.ABSENT))).part10)
    images = [reported(dx, Outcome.PRESENT, boxes=3), *frames, reported(other, Outcome.OUT_OF_SCOPE)]
    ds = dataset(build_report(content_of(*images)))

    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    references = [item.ReferencedSOPSequence[0] for item in walk(ds) if "ReferencedSOPSequence" in item]

    assert {item.ReferencedSOPInstanceUID for item in references} == {
        item.ReferencedSOPInstanceUID for item in evidence
    } == {uid("study", "series", name) for name in ("instance", "frames")}  # fmt: skip


def test_an_object_that_is_no_image_is_named_in_words_and_not_referenced(dx, tmp_path):
    other = tmp_path / "report.dcm"
    other.write_bytes(build_report(content_of(reported(dx, Outcome.ABSENT))).part10)
    report = build_report(content_of(reported(dx, Outcome.ABSENT), reported(other, Outcome.OUT_OF_SCOPE)))
    assert presence(report) == [ABSENT]
    assert any(words.startswith("Image 2 of 2") and "outside the scope" in words for words in comments(report))
