"""A patient who is corrected in an Orthanc, which keeps all UIDs, and pushed again."""

from __future__ import annotations

import json

import pytest
from pydicom import dcmread

from tests import reports
from tests.builders import build_dx, ramp, write_part10
from tests.bundles import write_tiny_bundle
from tests.product import Bonewatch
from tests.servers import orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

REPORTS = "SELECT sop_instance_uid AS uid, predecessor_sop_instance_uid AS before FROM reports ORDER BY id"


def corrected(pacs, instance, patient_id):
    """Give an instance another patient in the PACS, its UIDs kept, as a merge with the real patient does."""
    order = {
        "Replace": {"PatientID": patient_id, "PatientName": "REAL^NAME"},
        "Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"],
        "Force": True,
    }
    file = pacs.rest("POST", f"/instances/{instance}/modify", order)
    pacs.rest("DELETE", f"/instances/{instance}")
    return pacs.rest("POST", "/instances", file)["ID"]


def push(pacs, *instances):
    answer = pacs.rest("POST", "/modalities/bonewatch/store", {"Resources": list(instances), "Synchronous": True})
    assert answer["FailedInstancesCount"] == 0, answer


@pytest.fixture(scope="module")
def emergency(tmp_path_factory):
    """A study of two images of an emergency patient that was pushed, answered and committed."""
    folder = tmp_path_factory.mktemp("emergency")
    bonewatch = Bonewatch(folder / "home", bundle=str(write_tiny_bundle(folder / "bundle")))
    with orthanc(folder / "pacs", bonewatch.port) as pacs:
        images = []
        for number in range(2):
            ds = build_dx(
                study="emergency", instance=str(number), pixels=ramp(120 + number, 160), PatientID="EMERGENCY-1"
            )
            images.append(pacs.upload(write_part10(ds, folder / f"{number}.dcm")))
        bonewatch.settings["destinations"] = [pacs.destination()]
        try:
            bonewatch.start("up", seconds=240)
            push(pacs, *images)
            bonewatch.wait_until_committed(1)
            yield pacs, bonewatch, images
            bonewatch.stop()
        finally:
            bonewatch.kill()


def test_a_patient_who_is_corrected_image_by_image_makes_the_study_wait_and_then_gets_a_report(emergency, tmp_path):
    pacs, bonewatch, (first, second) = emergency
    (early,) = [dcmread(pacs.download(name, tmp_path)) for name in pacs.instances("SR")]
    assert early.PatientID == "EMERGENCY-1"

    second = corrected(pacs, second, "MRN-77")
    push(pacs, second)
    bonewatch.wait_for("SELECT count(*) = 1 FROM studies WHERE held_reason IS NOT NULL", 60, "the study waits")
    status = json.loads(bonewatch.command("status", "--json").stdout)
    shown = bonewatch.command("status").stdout
    assert status["held"] == 1
    assert status["held_studies"][0]["reported"] is True
    assert "send the older images again" in " ".join(shown.split())
    assert "MRN-77" not in shown
    assert bonewatch.one("SELECT count(*) FROM jobs") == 1

    first = corrected(pacs, first, "MRN-77")
    push(pacs, first)
    bonewatch.wait_for("SELECT count(*) = 2 FROM reports", 60, "a second report")
    bonewatch.wait_until_committed(1)

    names = bonewatch.rows(REPORTS)
    late = dcmread(pacs.download(pacs.find(names[1]["uid"]), tmp_path))
    assert (late.PatientID, str(late.PatientName)) == ("MRN-77", "REAL^NAME")
    assert (names[0]["uid"], names[1]["before"]) == (early.SOPInstanceUID, early.SOPInstanceUID)
    assert not reports.validator_errors(pacs.download(pacs.find(names[1]["uid"]), tmp_path))
    assert bonewatch.rows("SELECT patient_id, held_reason FROM studies") == [
        {"patient_id": "MRN-77", "held_reason": None}
    ]
    assert bonewatch.one("SELECT count(*) FROM replaced_instances WHERE patient_id = 'EMERGENCY-1'") == 2
    assert bonewatch.rows("SELECT * FROM rejections") == []


def test_reports_that_come_back_with_either_patient_block_nothing(emergency):
    pacs, bonewatch, _ = emergency
    jobs = bonewatch.one("SELECT count(*) FROM jobs")
    push(pacs, *pacs.instances("SR"))
    bonewatch.wait_until_committed(1)
    retried = bonewatch.command("retry", bonewatch.one("SELECT study_instance_uid FROM studies"))
    assert retried.returncode == 0, retried.stdout + retried.stderr
    more = "SELECT count(*) > :jobs FROM jobs WHERE outcome IS NOT NULL"
    bonewatch.wait_for(more, 60, "one more answer", jobs=jobs)
    bonewatch.wait_until_committed(1)
    assert "failed" not in {row["outcome"] for row in bonewatch.rows("SELECT outcome FROM jobs")}


def test_a_study_that_must_go_leaves_one_event_and_no_file(emergency):
    _, bonewatch, _ = emergency
    forgotten = bonewatch.command("forget", "TEST0001", "--yes", "--json")
    assert forgotten.returncode == 0, forgotten.stdout + forgotten.stderr
    for table in ("studies", "instances", "jobs", "image_results", "reports", "deliveries", "replaced_instances"):
        assert bonewatch.one(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608 - our own words
    assert list((bonewatch.home / "store").rglob("*.dcm")) == []
    (told,) = bonewatch.rows("SELECT detail FROM events WHERE kind = 'study_forgotten'")
    assert "MRN-77" not in str(told)
    assert "TEST0001" not in str(told)
