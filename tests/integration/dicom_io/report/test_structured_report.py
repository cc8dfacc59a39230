"""A structured report: identity, answers, boxes, dates, and the patient."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from dicom_io.report import structured_report
from dicom_io.report.structured_report import as_comprehensive_sr
from dicom_io.types import Box, Outcome, ReportReference
from tests.builders import build_dx, uid
from tests.reporting import ALGORITHM, BOXES, REASON, build_report, content_of, reported, stored
from tests.reports import comments, concept, dataset, presence, tree, walk

PRESENT, ABSENT, UNDETERMINED = "52101004", "272519000", "373068000"


@pytest.fixture(scope="module")
def dx(tmp_path_factory):
    return stored(build_dx(), tmp_path_factory.mktemp("dx"))


def test_building_twice_gives_the_same_bytes(dx):
    content = content_of(reported(dx, Outcome.PRESENT, boxes=2))
    first, second = build_report(content), structured_report.build_report(content)
    assert first == second
    assert as_comprehensive_sr(first.part10) == as_comprehensive_sr(second.part10)


def test_the_reference_names_what_the_file_says(dx):
    report = build_report(content_of(reported(dx, Outcome.ABSENT)))
    ds = dataset(report)
    assert report.reference == ReportReference(
        ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID
    )
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert ds.StudyInstanceUID == uid("study")


def test_identity_follows_digest_and_model_and_the_series_only_the_model(dx):
    content = content_of(reported(dx, Outcome.ABSENT))
    first = build_report(content).reference
    other_digest = build_report(replace(content, analysis_digest="other")).reference
    other_model = build_report(replace(content, model_version="other")).reference
    assert len({first.sop_instance_uid, other_digest.sop_instance_uid, other_model.sop_instance_uid}) == 3
    assert first.series_instance_uid == other_digest.series_instance_uid != other_model.series_instance_uid


def test_a_revision_points_at_its_predecessor_and_is_a_new_instance(dx):
    content = content_of(reported(dx, Outcome.ABSENT))
    first = build_report(content)
    second = build_report(replace(content, predecessor=first.reference))
    (study,) = dataset(second).PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (item,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == first.reference.study_instance_uid
    assert series.SeriesInstanceUID == first.reference.series_instance_uid
    assert item.ReferencedSOPInstanceUID == first.reference.sop_instance_uid
    assert item.ReferencedSOPClassUID == first.reference.sop_class_uid
    assert second.reference.sop_instance_uid != first.reference.sop_instance_uid
    assert "PredecessorDocumentsSequence" not in dataset(first)


def test_all_tracking_uids_differ_and_none_is_random(tmp_path):
    a, b = stored(build_dx(), tmp_path, "a"), stored(build_dx(instance="b"), tmp_path, "b")
    report = build_report(content_of(reported(a, Outcome.PRESENT, 2), reported(b, Outcome.PRESENT, 1)))
    tracking = [item.UID for item in walk(dataset(report)) if concept(item) == "112040"]
    assert len(tracking) == len(set(tracking)) == 5


@pytest.mark.parametrize(
    ("outcome", "boxes", "code"),
    [
        (Outcome.PRESENT, 2, PRESENT),
        (Outcome.PRESENT, 0, PRESENT),
        (Outcome.INCONCLUSIVE, 1, UNDETERMINED),
        (Outcome.ABSENT, 0, ABSENT),
        (Outcome.FAILED, 0, None),
        (Outcome.OUT_OF_SCOPE, 0, None),
    ],
)
def test_each_outcome_has_its_code(dx, outcome, boxes, code):
    assert presence(build_report(content_of(reported(dx, outcome, boxes)))) == [code]


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.FAILED, "111224"), (Outcome.OUT_OF_SCOPE, "111225")])
def test_an_image_without_an_answer_has_no_finding_no_probability_and_says_so(dx, outcome, status):
    report = build_report(content_of(reported(dx, outcome)))
    (group,) = tree(report).get_image_measurement_groups()
    assert group.finding_type is None
    assert group.get_measurements() == []
    answers = {e.name.value: e.value.value for e in group.get_qualitative_evaluations()}
    assert answers["111065"] == status
    encoded = report.part10
    assert b"Absent" not in encoded
    assert b"No fracture" not in encoded
    assert any("NOT ANALYSED" in words and REASON in words for words in comments(report))
    assert any("not a negative result" in words for words in comments(report))


def test_a_failure_beside_a_negative_image_is_named_and_the_study_is_not_negative(tmp_path):
    a, b = stored(build_dx(), tmp_path, "a"), stored(build_dx(instance="b", InstanceNumber=2), tmp_path, "b")
    report = build_report(content_of(reported(a, Outcome.ABSENT), reported(b, Outcome.FAILED)))
    assert presence(report) == [ABSENT, None]
    summary = comments(report)[-4:]
    assert summary[0].startswith("AI result: not verified")
    assert summary[1] == "INCOMPLETE: 1 of 2 images could not be analysed. This is not a negative result."
    assert summary[2].startswith("Image 1 of 2 (series 1, image 1")
    assert summary[3].startswith("Image 2 of 2 (series 1, image 2")
    assert REASON in summary[3]


def test_probability_algorithm_and_finding_can_be_read_back(dx):
    (group,) = tree(build_report(content_of(reported(dx, Outcome.ABSENT)))).get_image_measurement_groups()
    (measurement,) = group.get_measurements(name=codes.DCM.Probability)
    assert measurement.value == pytest.approx(0.031)
    assert measurement.unit.value == "1"
    assert (group.finding_type.value, group.finding_type.scheme_designator) == ("72704001", "SCT")
    (site,) = group.finding_sites
    assert (site.value.value, site.laterality.value) == ("85562004", "24028007")
    values = {concept(item): item.get("TextValue") for item in group[0].ContentSequence if "TextValue" in item}
    assert values["111001"] == ALGORITHM.name
    assert values["111003"] == ALGORITHM.version
    assert values["122405"] == ALGORITHM.manufacturer
    parameters = [item.TextValue for item in group[0].ContentSequence if concept(item) == "111002"]
    assert tuple(parameters) == ALGORITHM.parameters
    (family,) = [item.value.value for item in group[0].ContentSequence if concept(item) == "111000"]
    assert family == "123110"  # Artificial Intelligence


def test_the_parts_of_the_report_stand_in_the_order_of_their_template(dx):
    ds = dataset(build_report(content_of(reported(dx, Outcome.ABSENT))))
    # TID 1500, rows 4, 5, 6 and 12: procedure, image library, measurements, qualitative evaluations
    parts = [concept(item) for item in ds.ContentSequence if item.RelationshipType != "HAS OBS CONTEXT"]
    assert parts == ["121049", "121058", "111028", "126010", "C0034375"]


def test_the_observer_is_a_device_that_stays_the_same(dx):
    content = content_of(reported(dx, Outcome.ABSENT))
    newer = replace(content, algorithm=replace(ALGORITHM, version="20270101-next+ffffffff"), model_version="next")
    observers = [tree(build_report(each)).get_observer_contexts()[0] for each in (content, newer)]
    assert {observer.observer_type.value for observer in observers} == {"121007"}
    assert len({observer.observer_identifying_attributes.uid for observer in observers}) == 1


def test_corners_of_a_known_rectangle_come_back_as_its_first_and_last_pixels(tmp_path):
    pixels = np.zeros((60, 40), np.uint16)
    pixels[12:31, 7:22] = 1000  # rows 12..30, columns 7..21
    path = stored(build_dx(pixels=pixels), tmp_path)
    image = replace(reported(path, Outcome.PRESENT), boxes=(Box(7, 12, 22, 31, 0.9),))
    (group,) = tree(build_report(content_of(image))).get_planar_roi_measurement_groups()
    points = group.roi.value
    assert np.array_equal(points[0], points[-1])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    # A pixel belongs to the region when its centre, half a pixel from its corner, lies inside.
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(60) + 0.5)
    inside = (left < columns) & (columns < right) & (top < rows) & (rows < bottom)
    assert np.array_equal(inside, pixels == 1000)


def test_five_boxes_come_back_to_a_hundredth_of_a_pixel_with_their_scores(tmp_path):
    path = stored(build_dx(), tmp_path)
    groups = tree(build_report(content_of(reported(path, Outcome.PRESENT, 5)))).get_planar_roi_measurement_groups()
    assert len(groups) == 5
    for group, box in zip(groups, BOXES, strict=True):
        assert group.roi.GraphicType == "POLYLINE"
        expected = [(box.x1, box.y1), (box.x2, box.y1), (box.x2, box.y2), (box.x1, box.y2), (box.x1, box.y1)]
        assert np.abs(group.roi.value - np.array(expected)).max() < 0.01
        (score,) = group.get_measurements(name=codes.DCM.Probability)
        assert score.value == pytest.approx(box.score)
        purposes = [item.value.value for item in group[0].ContentSequence if concept(item) == "130400"]
        assert purposes == ["75958009"]  # Bounded by


def test_boxes_that_fill_the_image_are_lawful(tmp_path):
    path = stored(build_dx(), tmp_path)
    image = replace(reported(path, Outcome.PRESENT), boxes=(Box(0, 0, 32, 24, 1.0),))
    assert len(tree(build_report(content_of(image))).get_planar_roi_measurement_groups()) == 1


def test_an_error_of_rounding_ends_at_the_edge_of_the_image(tmp_path):
    path = stored(build_dx(), tmp_path)
    image = replace(reported(path, Outcome.PRESENT), boxes=(Box(-0.001, 3, 32.25, 24.0001, 1.0),))
    (group,) = tree(build_report(content_of(image))).get_planar_roi_measurement_groups()
    assert (group.roi.value.min(axis=0).tolist(), group.roi.value.max(axis=0).tolist()) == ([0, 3], [32, 24])


def test_the_flags_say_complete_unverified_and_preliminary(dx):
    ds = dataset(build_report(content_of(reported(dx, Outcome.ABSENT))))
    assert (ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    assert ds.Modality == "SR"
    procedure = next(item for item in walk(ds) if concept(item) == "121058")
    assert procedure.ConceptCodeSequence[0].CodeValue == "168537006"


def test_dates_are_those_of_the_content_and_nothing_is_of_now(dx):
    ds = dataset(build_report(content_of(reported(dx, Outcome.ABSENT))))
    assert (ds.ContentDate, ds.ContentTime) == ("20261122", "201530")
    assert (ds.InstanceCreationDate, ds.InstanceCreationTime) == ("20261122", "201530")
    assert "ContributingEquipmentSequence" not in ds


def test_an_aware_time_is_written_in_the_zone_that_the_source_declares(tmp_path):
    path = stored(build_dx(TimezoneOffsetFromUTC="+0530"), tmp_path)
    moment = datetime(2026, 11, 22, 20, 15, 30, tzinfo=UTC)
    ds = dataset(build_report(content_of(reported(path, Outcome.ABSENT), content_datetime=moment)))
    assert (ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC) == ("20261123", "014530", "+0530")


def test_without_a_declared_zone_an_aware_time_keeps_its_wall_clock(dx):
    moment = datetime(2026, 11, 22, 20, 15, 30, tzinfo=timezone(timedelta(hours=-7)))
    ds = dataset(build_report(content_of(reported(dx, Outcome.ABSENT), content_datetime=moment)))
    assert (ds.ContentDate, ds.ContentTime) == ("20261122", "201530")
    assert "TimezoneOffsetFromUTC" not in ds


def test_patient_and_study_are_those_of_the_source(dx):
    ds, source = dataset(build_report(content_of(reported(dx, Outcome.ABSENT)))), pydicom.dcmread(dx)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate"):
        assert ds[keyword].value == source[keyword].value, keyword


def test_the_other_class_has_the_same_tree_and_its_own_instance(dx):
    report = build_report(content_of(reported(dx, Outcome.PRESENT, 2)))
    other = as_comprehensive_sr(report.part10)
    assert other.reference.sop_class_uid == "1.2.840.10008.5.1.4.1.1.88.33"
    assert other.reference.sop_instance_uid != report.reference.sop_instance_uid
    assert other.reference.series_instance_uid == report.reference.series_instance_uid
    original, changed = dataset(report), dataset(other)
    assert changed.file_meta.MediaStorageSOPInstanceUID == other.reference.sop_instance_uid
    for ds in (original, changed):
        del ds.SOPClassUID, ds.SOPInstanceUID
    assert original == changed


def test_an_image_without_an_identifier_does_not_hide_the_patient(tmp_path):
    a = stored(build_dx(PatientID=""), tmp_path, "a")
    b = stored(build_dx(instance="b"), tmp_path, "b")
    report = build_report(content_of(reported(a, Outcome.ABSENT), reported(b, Outcome.ABSENT)))
    assert dataset(report).PatientID == "TEST-0001"
