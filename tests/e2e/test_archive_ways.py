"""The same story by every way that an archive hands studies over, the roles apart, the scheduler killed three times.

A run finds and retrieves what a real Orthanc holds, once each; a second finds nothing to do; another model sees all.
"""

from __future__ import annotations

import pytest

from tests.archive_site import FIRST, SECOND, archive_site
from tests.servers import redis_server
from worker.db.database import upgrade
from worker.settings.connection_url import parse_database_url

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(1200)]

STUDIES = 8
TAKEN = "SELECT count(*) >= {} FROM reanalysis_items WHERE state IN ('retrieved', 'analysis')"


@pytest.fixture(params=["get", "move", "dicomweb"])
def site(tmp_path, request):
    """The Orthanc, and the roles of a bonewatch without its scheduler; a study a second is retrieved."""
    pace = {"reanalysis_retrievals_a_minute": 60, "reanalysis_retrievals_at_once": 1}
    with redis_server(tmp_path / "redis") as url, archive_site(tmp_path, STUDIES, redis_url=url, **pace) as site:
        site.use(request.param)
        upgrade(parse_database_url(f"sqlite:///{site.bonewatch.home}/bonewatch.sqlite3"))
        site.bonewatch.start_role("listen")
        site.bonewatch.start_role("work")
        yield site


def test_studies_come_once_though_the_scheduler_is_killed_and_again_for_another_model(site):
    bonewatch = site.bonewatch
    ask(bonewatch)
    for killed_at in (1, 3, 5):
        scheduler = bonewatch.start_role("schedule")
        bonewatch.wait_for(TAKEN.format(killed_at), 120, f"{killed_at} studies were retrieved")
        scheduler.kill()
        assert not bonewatch.one(TAKEN.format(STUDIES)), "killed too late to show anything"
    bonewatch.settings["reanalysis_retrievals_a_minute"] = 6000  # slow no more: nothing is to be killed
    bonewatch.start_role("schedule")
    site.wait_for_runs(1)
    site.expect_one_each()

    ask(bonewatch)
    site.wait_for_runs(2)
    assert bonewatch.one("SELECT planned FROM reanalysis_runs WHERE id = 2") == 0
    assert bonewatch.one("SELECT count(*) FROM jobs") == STUDIES

    site.install_second_model()
    ask(bonewatch)
    site.wait_for_runs(3)
    site.expect_one_each((FIRST, SECOND))
    site.expect_changes_listed()


def ask(bonewatch):
    asked = bonewatch.command("reanalyze", "start", "--from", "archive")
    assert asked.returncode == 0, asked.stderr
