"""Nights over what only the PACS has: 60 studies come from an Orthanc by C-GET, though all is killed thrice.

Every minute begins a night. The first answers each study once, the second does nothing.
"""

from __future__ import annotations

import pytest

from tests.archive_site import archive_site

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(1200)]

STUDIES = 60
START_SECONDS = 240


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The Orthanc and a bonewatch that asks it every night."""
    night = {"reanalysis_crontab": "* * * * *", "reanalysis_sources": "archive", "reanalysis_retrievals_at_once": 4}
    with archive_site(tmp_path_factory.mktemp("night"), STUDIES, **night) as site:
        site.use("get")
        yield site


def test_a_night_answers_every_study_once_though_killed_three_times_and_the_next_does_nothing(site):
    bonewatch = site.bonewatch
    for killed_at in (5, 20, 35):
        bonewatch.start("up", seconds=START_SECONDS)
        site.wait_for_answers(killed_at)
        bonewatch.kill()
        assert bonewatch.one("SELECT count(*) FROM jobs WHERE state = 'done'") < STUDIES, "killed too late"
    bonewatch.start("up", seconds=START_SECONDS)
    site.wait_for_runs(1)
    site.expect_one_each()

    site.wait_for_runs(2)
    night = bonewatch.rows("SELECT found, planned FROM reanalysis_runs ORDER BY id")
    assert night[1] == {"found": STUDIES, "planned": 0}
    assert bonewatch.one("SELECT count(*) FROM jobs") == STUDIES
