"""Whole nights over the own store, with a real Orthanc that keeps the reports, and kill -9 in the middle.

Studies have the answer of one model. Another is installed; at the next night (here every minute begins one) each of
them gets its answer, once, though everything is killed three times. The night after that does nothing.
"""

from __future__ import annotations

import json

import pytest

from tests import scu
from tests.builders import build_dx, ramp, write_part10
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from tests.peers import wait_until
from tests.product import Bonewatch
from tests.servers import orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

STUDIES = 24
NIGHT_SECONDS = 60
ANSWERED = "SELECT count(*) FROM jobs WHERE model_version LIKE :model AND state = 'done'"
OF_MODEL = "SELECT study_id, count(*) AS jobs FROM jobs WHERE model_version LIKE :model GROUP BY study_id"
REPORTS = """
    SELECT j.study_id, count(*) AS reports FROM reports r JOIN jobs j ON j.id = r.job_id
    WHERE j.model_version LIKE :model GROUP BY j.study_id
"""
FINISHED = "SELECT count(*) FROM reanalysis_runs WHERE state = 'finished'"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A bonewatch whose store holds two dozen studies with the answer of the first model, every report committed."""
    folder = tmp_path_factory.mktemp("nights")
    bundle = write_tiny_bundle(folder / "bundle")
    bonewatch = Bonewatch(
        folder / "home", bundle=str(bundle), reanalysis_lease_seconds=4, reanalysis_waiting=10, archive_reports="always"
    )
    with orthanc(folder / "pacs", bonewatch.port) as pacs:
        bonewatch.settings["destinations"] = [pacs.destination()]
        try:
            bonewatch.start("up")
            paths = [write_part10(radiograph(number), folder / f"{number}.dcm") for number in range(STUDIES)]
            assert set(scu.push(bonewatch.port, [scu.message(path) for path in paths])) == {0}
            bonewatch.wait_until_committed(STUDIES, seconds=180)
            yield pacs, bonewatch, bundle
        finally:
            bonewatch.kill()


def radiograph(number):
    day = f"2026{1 + number // 28:02d}{1 + number % 28:02d}"
    words = {"study": f"night-{number}", "instance": "image", "PatientID": f"TEST-{number}", "StudyDate": day}
    return build_dx(**words, pixels=ramp(120 + number, 160))


def test_a_night_answers_every_study_once_though_killed_three_times_and_the_next_does_nothing(site):
    pacs, bonewatch, bundle = site
    bonewatch.kill()
    write_manifest(bundle, tiny_manifest(bundle) | {"date": "2026-02-02"})
    bonewatch.settings["reanalysis_crontab"] = "* * * * *"

    for killed_at in (3, 9, 15):
        bonewatch.start("up")
        bonewatch.wait_for(
            f"{ANSWERED.replace('count(*)', f'count(*) >= {killed_at}')}", 120, "answers", model="2026-02-02%"
        )
        bonewatch.kill()
        assert bonewatch.one(ANSWERED, model="2026-02-02%") < STUDIES, "killed too late to show anything"
    bonewatch.start("up")
    bonewatch.wait_for(FINISHED.replace("count(*)", "count(*) >= 1"), 180, "the run has finished")
    bonewatch.wait_until_committed(STUDIES, seconds=180)

    one_each = dict.fromkeys(range(1, STUDIES + 1), 1)
    for model in ("2026-01-01%", "2026-02-02%"):
        assert {row["study_id"]: row["jobs"] for row in bonewatch.rows(OF_MODEL, model=model)} == one_each
    assert {row["study_id"]: row["reports"] for row in bonewatch.rows(REPORTS, model="2026-02-02%")} == one_each
    assert len(pacs.instances("SR")) == 2 * STUDIES
    assert bonewatch.one("SELECT count(*) FROM jobs WHERE lane = 'archive'") == STUDIES
    assert bonewatch.rows("SELECT state, count(*) AS studies FROM reanalysis_items GROUP BY state") == [
        {"state": "done", "studies": STUDIES}
    ]

    before, jobs = bonewatch.one(FINISHED), bonewatch.one("SELECT count(*) FROM jobs")
    later = FINISHED.replace("count(*)", f"count(*) > {before}")
    bonewatch.wait_for(later, NIGHT_SECONDS + 60, "another night has passed")
    assert bonewatch.one("SELECT count(*) FROM jobs") == jobs


def test_the_command_says_what_a_run_would_take_and_follows_it_to_its_end(site):
    _, bonewatch, bundle = site
    bonewatch.kill()
    del bonewatch.settings["reanalysis_crontab"]
    write_manifest(bundle, tiny_manifest(bundle) | {"date": "2026-03-03"})
    bonewatch.start("up")

    dry = json.loads(bonewatch.command("reanalyze", "--dry-run", "--json").stdout)
    ran = bonewatch.command("reanalyze", "--limit", "5", "--follow", "--order", "oldest", seconds=180)
    shown = json.loads(bonewatch.command("reanalyze", "--status", "--json").stdout)

    assert (dry["studies"], dry["images"]) == (STUDIES, STUDIES)
    assert dry["hours"] > 0
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "5 done, 0 failed" in ran.stdout
    assert (shown[0]["state"], shown[0]["done"]) == ("finished", 5)
    oldest = bonewatch.rows(
        "SELECT s.study_date FROM jobs j JOIN studies s ON s.id = j.study_id WHERE j.model_version LIKE '2026-03-03%' "
        "ORDER BY j.id"
    )
    assert [row["study_date"] for row in oldest] == [f"202601{day:02d}" for day in range(1, 6)]
    wait_until(lambda: "re-analysis" in bonewatch.command("status").stdout, 30, "a line of status")
