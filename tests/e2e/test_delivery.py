"""A PACS that is down, and a PACS that knows no storage commitment."""

from __future__ import annotations

import pytest

from tests import scu
from tests.bundles import write_tiny_bundle
from tests.product import SAMPLES, Bonewatch
from tests.servers import Orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def site(tmp_path):
    """A bonewatch that runs, with two destinations that do not yet: one that commits, one that is asked by C-FIND."""
    bonewatch = Bonewatch(tmp_path / "home", bundle=str(write_tiny_bundle(tmp_path / "bundle")))
    commits = Orthanc(tmp_path / "commits", bonewatch.port)
    finds = Orthanc(tmp_path / "finds", bonewatch.port, allow_commitment=False)
    bonewatch.settings["destinations"] = [commits.destination("commits"), finds.destination("finds", confirm="find")]
    try:
        bonewatch.start("up")
        yield bonewatch, commits, finds
        bonewatch.stop()
    finally:
        bonewatch.kill()
        commits.stop()
        finds.stop()


def test_reports_arrive_and_are_confirmed_once_a_pacs_is_back(site):
    bonewatch, commits, finds = site
    files = sorted(SAMPLES.glob("0[1-2]*/*.dcm"))

    assert set(scu.push(bonewatch.port, [scu.message(path) for path in files])) == {0}
    bonewatch.wait_for("SELECT count(*) = 4 FROM deliveries WHERE attempts >= 2", 90, "each delivery was tried twice")
    waiting = bonewatch.rows("SELECT DISTINCT state FROM deliveries")
    assert {row["state"] for row in waiting} <= {"pending", "sending"}, "an absent PACS is no final failure"

    commits.start()
    finds.start()
    bonewatch.wait_until_committed(2)

    confirmed = bonewatch.rows(
        "SELECT destination, confirmed_by, count(*) AS n FROM deliveries GROUP BY 1, 2 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in confirmed] == [("commits", "commitment", 2), ("finds", "find", 2)]
    assert len(commits.instances("SR")) == len(finds.instances("SR")) == 2
