"""Nights over what only the PACS has: a real Orthanc holds the studies, hands them over, and keeps the reports.

60 studies were never pushed. A night finds and retrieves them by C-GET and answers each once, though everything is
killed three times; the night after does nothing. After a change of the model the studies are brought again, by C-MOVE
and by DICOMweb. No file of them is left here.
"""

from __future__ import annotations

import json

import pytest

from tests.builders import build_dx, ramp, write_part10
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from tests.peers import LOOPBACK, free_port
from tests.product import Bonewatch
from tests.servers import orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow]

STUDIES, SOME = 60, 8
ANSWERED = "SELECT count(*) FROM jobs WHERE model_version LIKE :model AND state = 'done'"
JOBS_OF = "SELECT study_id, count(*) AS jobs FROM jobs WHERE model_version LIKE :model GROUP BY study_id"
REPORTS_OF = """
    SELECT j.study_id, count(*) AS reports FROM reports r JOIN jobs j ON j.id = r.job_id
    WHERE j.model_version LIKE :model GROUP BY j.study_id
"""
FILES_HERE = "SELECT count(*) FROM instances WHERE file_deleted_at IS NULL"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An Orthanc with 60 studies, and a bonewatch that has none of them."""
    folder = tmp_path_factory.mktemp("archive")
    bundle = write_tiny_bundle(folder / "bundle")
    bonewatch = Bonewatch(
        folder / "home", bundle=str(bundle), reanalysis_lease_seconds=4, reanalysis_queries_a_minute=6000,
        reanalysis_retrievals_a_minute=6000, reanalysis_retrievals_at_once=4,
    )  # fmt: skip
    with orthanc(folder / "pacs", bonewatch.port, dicomweb=True) as pacs:
        for number in range(STUDIES):
            pacs.upload(write_part10(radiograph(number), folder / f"{number}.dcm"))
        bonewatch.settings["destinations"] = [pacs.destination()]
        try:
            yield pacs, bonewatch, bundle
        finally:
            bonewatch.kill()


def radiograph(number):
    day = f"2026{1 + number // 28:02d}{1 + number % 28:02d}"
    words = {"study": f"past-{number}", "instance": "image", "PatientID": f"TEST-{number}", "StudyDate": day}
    return build_dx(**words, pixels=ramp(120 + number, 160))


def way(pacs, retrieve):
    if retrieve == "dicomweb":
        return {"name": "pacs", "url": pacs.dicomweb_url}
    return {"name": "pacs", "ae_title": pacs.ae_title, "host": LOOPBACK, "port": pacs.dicom_port, "retrieve": retrieve}


def wait_until_finished(bonewatch, runs, seconds=240):
    finished = f"SELECT count(*) >= {runs} FROM reanalysis_runs WHERE state = 'finished'"  # noqa: S608 - a number
    bonewatch.wait_for(finished, seconds, f"{runs} runs have finished")


def latest_run(bonewatch):
    return json.loads(bonewatch.command("reanalyze", "--status", "--json").stdout)[0]


def test_wrong_settings_are_told_and_harm_nothing(site):
    pacs, bonewatch, _ = site
    bonewatch.settings["archive"] = way(pacs, "get") | {"port": free_port()}
    bonewatch.start("up", seconds=240)

    asked = bonewatch.command("reanalyze", "--from", "archive")
    assert asked.returncode == 0, asked.stderr
    bonewatch.wait_for("SELECT count(*) FROM reanalysis_runs WHERE retry_at IS NOT NULL", 60, "a reason")

    assert "pacs" in latest_run(bonewatch)["reason"]
    assert latest_run(bonewatch)["state"] == "planned"
    counted = bonewatch.command("reanalyze", "--from", "archive", "--dry-run")
    assert counted.returncode == 3
    assert "pacs" in counted.stderr
    bonewatch.kill()
    assert bonewatch.command("reanalyze", "--stop", "1").returncode == 0


def test_a_night_brings_and_answers_every_study_once_though_killed_three_times_and_the_next_does_nothing(site):
    pacs, bonewatch, _ = site
    bonewatch.settings |= {"archive": way(pacs, "get"), "reanalysis_sources": "archive"}
    counted = bonewatch.command("reanalyze", "--from", "archive", "--dry-run", "--json")
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout)["studies"] == json.loads(counted.stdout)["images"] == STUDIES

    bonewatch.settings["reanalysis_crontab"] = "* * * * *"
    for killed_at in (5, 20, 35):
        bonewatch.start("up", seconds=240)
        bonewatch.wait_for(ANSWERED.replace("count(*)", f"count(*) >= {killed_at}"), 180, "answers", model="%")
        bonewatch.kill()
        assert bonewatch.one(ANSWERED, model="%") < STUDIES, "killed too late to show anything"
    bonewatch.start("up", seconds=240)
    wait_until_finished(bonewatch, 1)
    bonewatch.wait_until_committed(STUDIES, seconds=180)
    wait_until_finished(bonewatch, 2)

    one_each = dict.fromkeys(range(1, STUDIES + 1), 1)
    assert {row["study_id"]: row["jobs"] for row in bonewatch.rows(JOBS_OF, model="%")} == one_each
    assert {row["study_id"]: row["reports"] for row in bonewatch.rows(REPORTS_OF, model="%")} == one_each
    assert len(pacs.instances("SR")) == STUDIES
    assert bonewatch.rows("SELECT lane, count(*) AS jobs FROM jobs GROUP BY lane") == [
        {"lane": "archive", "jobs": STUDIES}
    ]
    done = "SELECT state, count(*) AS studies FROM reanalysis_items GROUP BY state"
    assert bonewatch.rows(done) == [{"state": "done", "studies": STUDIES}]
    bonewatch.wait_for(FILES_HERE.replace("count(*)", "count(*) = 0"), 60, "no file of theirs is here")
    assert list((bonewatch.home / "store" / "instances").rglob("*.dcm")) == []
    del bonewatch.settings["reanalysis_crontab"]


@pytest.mark.parametrize(("retrieve", "date"), [("move", "2026-02-02"), ("dicomweb", "2026-03-03")])
def test_after_a_change_of_the_model_studies_are_brought_again(site, retrieve, date):
    pacs, bonewatch, bundle = site
    bonewatch.kill()
    write_manifest(bundle, tiny_manifest(bundle) | {"date": date})
    bonewatch.settings["archive"] = way(pacs, retrieve)
    bonewatch.start("up", seconds=240)

    ran = bonewatch.command("reanalyze", "--from", "archive", "--limit", str(SOME), "--follow", seconds=240)

    assert ran.returncode == 0, ran.stdout + ran.stderr + bonewatch.situation()
    jobs = {row["study_id"]: row["jobs"] for row in bonewatch.rows(JOBS_OF, model=f"{date}%")}
    assert list(jobs.values()) == [1] * SOME
    assert all(row["reports"] == 1 for row in bonewatch.rows(REPORTS_OF, model=f"{date}%"))
    listed = bonewatch.command("changes", "--all", "--format", "json")
    assert len(json.loads(listed.stdout)) == SOME, listed.stderr
    bonewatch.wait_for(FILES_HERE.replace("count(*)", "count(*) = 0"), 60, "no file of theirs is here")
