"""Runs over the own store, with a real Orthanc that keeps the reports, and kill -9 in the middle.

Studies have the answer of one model. A second is installed, and a command lets it see some of them. Then a third comes;
each study gets its answer, once, though everything is killed, and all changes are listed. Nothing is left to do then.
Nights, which begin such a run by themselves: `test_archive_night`.
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
ONCE = 5
"""Studies of the run by the command."""
FIRST, SECOND, THIRD = "2026-01-01", "2026-02-02", "2026-03-03"
"""The dates, and so the beginnings of the versions, of three bundles."""
ANSWERED = "SELECT count(*) FROM jobs WHERE model_version LIKE :model AND state = 'done'"
OF_MODEL = "SELECT study_id, count(*) AS jobs FROM jobs WHERE model_version LIKE :model GROUP BY study_id"
REPORTS = """
    SELECT j.study_id, count(*) AS reports FROM reports r JOIN jobs j ON j.id = r.job_id
    WHERE j.model_version LIKE :model GROUP BY j.study_id
"""
FINISHED = "SELECT count(*) FROM reanalysis_runs WHERE state = 'finished'"
MORE_FINISHED = FINISHED.replace("count(*)", "count(*) > :before")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A bonewatch whose store holds two dozen studies with the answer of the first model, every report committed."""
    folder = tmp_path_factory.mktemp("nights")
    bundle = write_tiny_bundle(folder / "bundle")
    bonewatch = Bonewatch(
        folder / "home", bundle=str(bundle), lease_seconds=4, reanalysis_waiting=10, archive_reports="always"
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


def install(bundle, date, **decision):
    """Replace the bundle by one of another version, while others may read it."""
    manifest = tiny_manifest(bundle) | {"date": date}
    manifest["decision"] |= decision
    write_manifest(bundle, manifest)


def test_the_command_says_what_a_run_would_take_and_follows_it_to_its_end(site):
    _, bonewatch, bundle = site
    install(bundle, SECOND)

    dry = json.loads(bonewatch.command("reanalyze", "plan", "--json").stdout)
    ran = bonewatch.command("reanalyze", "start", "--limit", str(ONCE), "--follow", "--order", "oldest", seconds=180)
    shown = json.loads(bonewatch.command("reanalyze", "status", "--json").stdout)

    assert (dry["studies"], dry["images"]) == (STUDIES, STUDIES)
    assert dry["hours"] > 0
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{ONCE} done, 0 failed" in ran.stdout
    assert (shown[0]["state"], shown[0]["done"]) == ("finished", ONCE)
    oldest = bonewatch.rows(
        "SELECT s.study_date FROM jobs j JOIN studies s ON s.id = j.study_id WHERE j.model_version LIKE :model "
        "ORDER BY j.id",
        model=f"{SECOND}%",
    )
    assert [row["study_date"] for row in oldest] == [f"202601{day:02d}" for day in range(1, ONCE + 1)]
    wait_until(lambda: "re-analysis" in bonewatch.command("status").stdout, 30, "a line of status")


def test_a_run_answers_every_study_once_though_all_is_killed_and_leaves_nothing_to_do(site):
    pacs, bonewatch, bundle = site
    bonewatch.wait_until_committed(STUDIES)
    jobs, runs, reports = bonewatch.one("SELECT count(*) FROM jobs"), bonewatch.one(FINISHED), len(pacs.instances("SR"))
    install(bundle, THIRD, low=0.01, high=0.02)

    assert bonewatch.command("reanalyze", "start").returncode == 0
    bonewatch.wait_for(ANSWERED.replace("count(*)", "count(*) >= 3"), 120, "answers", model=f"{THIRD}%")
    bonewatch.kill()
    assert bonewatch.one(ANSWERED, model=f"{THIRD}%") < STUDIES, "killed too late to show anything"
    bonewatch.start("up")
    bonewatch.wait_for(MORE_FINISHED, 180, "the run has finished", before=runs)
    bonewatch.wait_until_committed(STUDIES, seconds=180)

    one_each = dict.fromkeys(range(1, STUDIES + 1), 1)
    for model in (FIRST, THIRD):
        assert {row["study_id"]: row["jobs"] for row in bonewatch.rows(OF_MODEL, model=f"{model}%")} == one_each
    assert {row["study_id"]: row["reports"] for row in bonewatch.rows(REPORTS, model=f"{THIRD}%")} == one_each
    assert len(pacs.instances("SR")) == reports + STUDIES
    assert bonewatch.rows("SELECT run_id FROM v_reanalysis WHERE to_retrieve + retrieved + queued + failed > 0") == []
    assert listed_changes(bonewatch) == [("inconclusive", "present")] * STUDIES
    assert json.loads(bonewatch.command("reanalyze", "plan", "--json").stdout)["studies"] == 0
    assert bonewatch.one("SELECT count(*) FROM jobs") == jobs + STUDIES


def listed_changes(bonewatch):
    """Return what `bonewatch changes` says of the first model's answers and those of the one that is current."""
    first = bonewatch.one("SELECT min(model_version) FROM jobs")
    listed = bonewatch.command("changes", "--from", first, "--format", "json")
    assert listed.returncode == 0, listed.stderr
    return [(row["from_outcome"], row["to_outcome"]) for row in json.loads(listed.stdout)]
