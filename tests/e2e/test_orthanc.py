"""A real Orthanc as the PACS, DCMTK as a second sender, and everything that ships in between.

Orthanc holds the sample studies and pushes them to us itself; `bonewatch up` answers with reports, which Orthanc stores
and commits. The tests then read what lies in Orthanc, not what we believe that we sent. They run in order: the later
ones push more to the same services.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_io.report.drawing import YELLOW, scale_for
from tests import reports, scu
from tests.peers import program, run
from tests.product import SAMPLES, Bonewatch, sample_files, sample_studies
from tests.servers import Orthanc, orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

ANSWERS = {"present", "inconclusive", "absent"}
BOXES = """
    SELECT i.sop_instance_uid, r.frame_number, f.x1, f.y1, f.x2, f.y2
    FROM findings f JOIN image_results r ON r.id = f.image_result_id JOIN instances i ON i.id = r.instance_id
    JOIN jobs j ON j.id = r.job_id JOIN reports p ON p.job_id = j.id
    WHERE p.sop_instance_uid = :report ORDER BY 1, 2, 3, 4, 5, 6
"""
PICTURES = """
    SELECT c.kind, c.sop_instance_uid, d.state, d.confirmed_by, r.sop_instance_uid AS report
    FROM companions c JOIN reports r ON r.id = c.report_id LEFT JOIN deliveries d ON d.companion_id = c.id
"""
IMAGES = """
    SELECT i.sop_instance_uid, r.frame_number, r.outcome, r.probability
    FROM image_results r JOIN instances i ON i.id = r.instance_id
    WHERE r.job_id = :job AND r.outcome != 'out_of_scope'
"""
COUNTS = """
    SELECT (SELECT count(*) FROM instances) AS instances, (SELECT count(*) FROM jobs) AS jobs,
           (SELECT count(*) FROM image_results) AS results, (SELECT count(*) FROM reports) AS reports,
           (SELECT count(*) FROM deliveries) AS deliveries, (SELECT count(*) FROM rejections) AS rejections
"""


@dataclass
class Site:
    """One PACS and one bonewatch that know each other."""

    pacs: Orthanc
    bonewatch: Bonewatch
    folder: Path

    def reports(self) -> list[Path]:
        """Fetch every structured report out of the PACS."""
        return [self.pacs.download(name, self.folder / "reports") for name in self.pacs.instances("SR")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Orthanc has pushed the samples, and every report has been committed."""
    for name in ("dciodvfy", "dsrdump", "dcmsend", "storescu"):
        program(name)
    folder = tmp_path_factory.mktemp("orthanc")
    bonewatch = Bonewatch(folder / "home", marked_image="findings", presentation_state=True)
    with orthanc(folder / "pacs", bonewatch.port) as pacs:
        for path in sample_files():
            pacs.upload(path)
        bonewatch.settings["destinations"] = [pacs.destination()]
        try:
            bonewatch.start("up")
            pacs.push_everything()
            bonewatch.wait_until_committed(len(sample_studies()), seconds=150)
            yield Site(pacs, bonewatch, folder)
            bonewatch.stop()
        finally:
            bonewatch.kill()


def test_every_sample_gets_an_answer_and_one_report_that_the_pacs_committed(site):
    studies = sample_studies()

    rows = site.bonewatch.rows("SELECT * FROM v_results")
    deliveries = site.bonewatch.rows("SELECT state, confirmed_by FROM deliveries WHERE report_id IS NOT NULL")

    assert {row["study_instance_uid"] for row in rows} == studies
    assert {row["outcome"] for row in rows} <= ANSWERS
    assert [tuple(row.values()) for row in deliveries] == [("committed", "commitment")] * len(studies)
    assert len(site.pacs.instances("SR")) == len(studies)


def test_every_report_lies_in_the_study_it_speaks_of(site):
    for path in site.reports():
        report = dcmread(path)
        (study,) = site.bonewatch.rows(
            "SELECT s.study_instance_uid, s.patient_id FROM reports r JOIN jobs j ON j.id = r.job_id "
            "JOIN studies s ON s.id = j.study_id WHERE r.sop_instance_uid = :uid",
            uid=str(report.SOPInstanceUID),
        )
        evidence = {
            str(image.ReferencedSOPInstanceUID)
            for item in report.CurrentRequestedProcedureEvidenceSequence
            for series in item.ReferencedSeriesSequence
            for image in series.ReferencedSOPSequence
        }
        images = site.bonewatch.rows(
            "SELECT i.sop_instance_uid FROM instances i JOIN studies s ON s.id = i.study_id "
            "WHERE s.study_instance_uid = :uid",
            uid=str(report.StudyInstanceUID),
        )

        assert str(report.StudyInstanceUID) == study["study_instance_uid"]
        assert str(report.PatientID) == study["patient_id"]
        assert evidence == {image["sop_instance_uid"] for image in images}
    # No study of its own for a report: Orthanc holds as many studies as were put into it.
    assert set(site.pacs.studies()) == sample_studies()


def test_dciodvfy_finds_no_error_in_any_report(site):
    errors = {path.name: reports.validator_errors(path) for path in site.reports()}

    assert errors
    assert not {name: found for name, found in errors.items() if found}


def test_dsrdump_and_highdicom_read_every_report(site):
    for path in site.reports():
        assert "Imaging Measurement Report" in reports.dump(path)
        read = reports.read(path)
        assert read.content.get_image_measurement_groups()
        assert (read.CompletionFlag, read.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
        assert read.PreliminaryFlag == "PRELIMINARY"


def test_the_corners_of_a_report_equal_the_boxes_of_the_database_to_half_a_pixel(site):
    compared = 0
    for path in site.reports():
        read = reports.read(path)
        rows = site.bonewatch.rows(BOXES, report=str(read.SOPInstanceUID))
        of_database = sorted(tuple(row.values()) for row in rows)
        of_report = sorted((box.sop_instance_uid, box.frame_number, *box.corners) for box in reports.boxes(read))

        assert [box[:2] for box in of_report] == [box[:2] for box in of_database]
        for shown, known in zip(of_report, of_database, strict=True):
            assert shown[2:] == pytest.approx(known[2:], abs=0.5)
        compared += len(of_report)
    assert compared > 0, "no report has a box: nothing was compared"


def test_pictures_lie_beside_the_reports_committed_and_their_boxes_equal_those_of_the_database(site):
    pictures = site.bonewatch.rows(PICTURES)
    assert {picture["kind"] for picture in pictures} == {"capture", "presentation"}
    assert {(picture["state"], picture["confirmed_by"]) for picture in pictures} == {("committed", "commitment")}
    compared = {"presentation": 0, "capture": 0}
    for picture in pictures:
        path = site.pacs.download(site.pacs.find(picture["sop_instance_uid"]), site.folder / "pictures")
        assert not reports.validator_errors(path)
        rows = site.bonewatch.rows(BOXES, report=picture["report"])
        if picture["kind"] == "presentation":
            drawn, image = reports.outlines(path)
            known = [tuple(row.values())[2:] for row in rows if row["sop_instance_uid"] == image]
            assert drawn == [pytest.approx(box, abs=0.5) for box in known]
        else:
            made, preview = dcmread(path), site.pacs.preview(path.stem)
            assert np.array_equal(preview, made.pixel_array)
            image = made.SourceImageSequence[0].ReferencedSOPInstanceUID
            source = dcmread(
                site.pacs.download(site.pacs.find(image), site.folder / "sources"), stop_before_pixels=True
            )
            known = [tuple(row.values())[2:] for row in rows if row["sop_instance_uid"] == image]
            assert_outlined(preview, known, (source.Rows, source.Columns))
        compared[picture["kind"]] += len(known)
    assert all(compared.values()), "no picture of a kind has a box: nothing was compared"


def assert_outlined(picture, boxes, size):
    """Assert that a marked image has a yellow line along each side of each box of the database.

    The image lies between two bands of text whose heights only the product knows: one place must fit all boxes.
    """
    scale, _ = scale_for(size)
    yellow, high = (picture == YELLOW[::-1]).all(axis=2), round(size[0] * scale)
    scaled = [[round(value * scale) for value in box] for box in boxes]
    tops = range(yellow.shape[0] - high + 1)
    assert any(all(is_outlined(yellow[top : top + high], *box) for box in scaled) for top in tops)


def is_outlined(yellow, x1, y1, x2, y2):
    # Three pixels to either side are the line's own width and rounding.
    along = [yellow[y1:y2, max(x - 3, 0) : x + 4].any(axis=1) for x in (x1, x2)]
    along += [yellow[max(y - 3, 0) : y + 4, x1:x2].any(axis=0) for y in (y1, y2)]
    # Regions of an unclear image are dashed; either end of a side is a dash.
    return all(side.mean() > 0.4 and side[:3].any() and side[-3:].any() for side in along)


def test_sql_and_the_reports_say_the_same(site):
    rows = {row["study_instance_uid"]: row for row in site.bonewatch.rows("SELECT * FROM v_results")}
    for path in site.reports():
        read = reports.read(path)
        row = rows[str(read.StudyInstanceUID)]
        shown = {(each.sop_instance_uid, each.frame_number): each for each in reports.answers(read)}
        known = site.bonewatch.rows(IMAGES, job=row["job_id"])

        assert row["report_sop_instance_uid"] == str(read.SOPInstanceUID)
        assert set(shown) == {(image["sop_instance_uid"], image["frame_number"]) for image in known}
        for image in known:
            answer = shown[image["sop_instance_uid"], image["frame_number"]]
            assert answer.probability == pytest.approx(image["probability"], abs=1e-4)
            assert (answer.presence == "present") == (image["outcome"] == "present")
            assert (answer.presence == "absent") == (image["outcome"] == "absent")
        gravest = min((image["outcome"] for image in known), key=["present", "inconclusive", "absent"].index)
        assert row["outcome"] == gravest
        assert row["probability"] == pytest.approx(max(image["probability"] for image in known))


def test_the_same_push_again_changes_nothing(site):
    before = site.bonewatch.rows(COUNTS)

    site.pacs.push_everything()
    site.bonewatch.wait_until_committed(len(sample_studies()))

    # The push holds our own reports and pictures now: accepted like anything a PACS has, and nothing to analyse.
    after = site.bonewatch.rows(COUNTS)
    grown = {key for key in before[0] if after[0][key] != before[0][key]}
    assert grown <= {"instances"}
    ours = len(site.pacs.instances()) - len(sample_files())
    assert after[0]["instances"] == before[0]["instances"] + ours
    assert len(site.pacs.instances("SR")) == len(sample_studies())


def test_dcmsend_and_storescu_push_too(site):
    studies = site.bonewatch.one("SELECT count(*) FROM studies")
    port, files = str(site.bonewatch.port), sample_files()
    for index, (sender, path) in enumerate([("dcmsend", files[0]), ("storescu", files[1])]):
        copy = site.folder / sender / "image.dcm"
        copy.parent.mkdir()
        scu.rename(ds := dcmread(path), str(index)).save_as(copy)
        # -R of storescu: propose only what the files need, as dcmsend does by itself.
        run(sender, *(["-R"] if sender == "storescu" else []), "-aec", "BONEWATCH", "localhost", port, copy)
        assert site.bonewatch.one("SELECT count(*) FROM instances WHERE sop_instance_uid = :uid", uid=ds.SOPInstanceUID)

    site.bonewatch.wait_until_committed(studies + 2)

    rows = site.bonewatch.rows("SELECT outcome FROM v_results ORDER BY study_instance_uid")
    assert len(rows) == studies + 2
    assert {row["outcome"] for row in rows} <= ANSWERS


def test_a_late_image_makes_a_new_report_that_names_the_one_before(site):
    studies = site.bonewatch.one("SELECT count(*) FROM studies")
    copies = []
    for path in sorted(SAMPLES.glob("04*/*.dcm")):
        copies.append(site.folder / f"late-{path.name}")
        scu.rename(ds := dcmread(path), "4").save_as(copies[-1])
    assert len(copies) == 2

    for copy in copies:
        assert scu.push(site.bonewatch.port, [scu.message(copy)]) == [0]
        site.bonewatch.wait_until_committed(studies + 1)

    first, second = sorted(
        (read for read in map(dcmread, site.reports()) if read.StudyInstanceUID == ds.StudyInstanceUID),
        key=lambda report: "PredecessorDocumentsSequence" in report,
    )
    (study,) = second.PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    (row,) = site.bonewatch.rows("SELECT * FROM v_results WHERE study_instance_uid = :uid", uid=ds.StudyInstanceUID)
    assert named == first.SOPInstanceUID
    assert row["report_sop_instance_uid"] == second.SOPInstanceUID
    assert row["images"] == 2
    assert not reports.validator_errors(site.pacs.download(site.pacs.find(second.SOPInstanceUID), site.folder))


def test_the_commands_show_what_the_database_holds(site):
    rows = {row["study_instance_uid"]: row["outcome"] for row in site.bonewatch.rows("SELECT * FROM v_results")}

    results = site.bonewatch.command("results", "--format", "json")
    doctor = site.bonewatch.command("doctor")
    status = site.bonewatch.command("status")

    assert results.returncode == 0, results.stderr
    assert {row["study_instance_uid"]: row["outcome"] for row in json.loads(results.stdout)} == rows
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert status.returncode == 0, status.stdout + status.stderr


def test_every_stored_file_is_bit_exact(site):
    by_syntax = {dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID: path for path in sample_files()}
    assert len(by_syntax) > 2, "the samples come in several transfer syntaxes"
    copies = {}
    for index, path in enumerate(by_syntax.values()):
        copy = site.folder / f"bit-exact-{index}.dcm"
        scu.rename(ds := dcmread(path), f"77{index}").save_as(copy)
        copies[str(ds.SOPInstanceUID)] = copy

    statuses = scu.push(site.bonewatch.port, [scu.message(copy) for copy in copies.values()])

    assert set(statuses) == {0}
    for uid, copy in copies.items():
        stored = site.bonewatch.one("SELECT path FROM instances WHERE sop_instance_uid = :uid", uid=uid)
        assert scu.data_set(site.bonewatch.home / "store" / stored) == scu.data_set(copy)


def test_reports_that_the_pacs_sends_back_with_a_study_are_no_images_of_it(site):
    """Its turnaround stays that of the first answer, also when it is analysed again, and nothing is analysed anew."""
    told = "SELECT study_instance_uid, images, job_id, revision, turnaround_seconds FROM v_results ORDER BY 1"
    site.bonewatch.wait_until_committed(site.bonewatch.one("SELECT count(*) FROM studies"))
    before = site.bonewatch.rows(told)
    assert all(row["turnaround_seconds"] > 0 for row in before)
    site.pacs.push_everything()
    site.bonewatch.wait_until_committed(len(before))
    assert site.bonewatch.rows(told) == before

    study = before[0]["study_instance_uid"]
    assert site.bonewatch.command("retry", study).returncode == 0
    site.bonewatch.wait_until_committed(len(before))
    site.pacs.push_everything()
    site.bonewatch.wait_until_committed(len(before))

    after = site.bonewatch.rows(told)
    assert after[1:] == before[1:]
    assert after[0]["revision"] == before[0]["revision"] + 1
    same = ("images", "turnaround_seconds")
    assert [after[0][name] for name in same] == [before[0][name] for name in same]
    ours = "SELECT count(*) FROM instances i WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.sop_instance_uid = {})"
    known = "i.sop_instance_uid"
    marked = f"{known} AND i.out_of_scope_reason LIKE 'bonewatch made it%'"
    assert site.bonewatch.one(ours.format(known)) == site.bonewatch.one(ours.format(marked)) > 0
