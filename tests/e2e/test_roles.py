"""The roles one by one, on PostgreSQL and a Redis by URL; and a Redis that forgets everything."""

from __future__ import annotations

import pytest

from tests import scu
from tests.bundles import write_tiny_bundle
from tests.peers import run, wait_until
from tests.product import SAMPLES, Bonewatch
from tests.servers import orthanc, postgres_server, redis_server

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def servers(tmp_path):
    """PostgreSQL, Redis and Orthanc, and a bonewatch that uses them all, with no role started yet."""
    with redis_server(tmp_path / "redis") as redis_url, postgres_server() as database_url:
        bundle = str(write_tiny_bundle(tmp_path / "bundle"))
        bonewatch = Bonewatch(tmp_path / "home", bundle=bundle, redis_url=redis_url, database_url=database_url)
        with orthanc(tmp_path / "pacs", bonewatch.port) as pacs:
            bonewatch.settings["destinations"] = [pacs.destination()]
            try:
                yield bonewatch, pacs, redis_url
            finally:
                bonewatch.kill()


def test_studies_go_their_way_over_postgresql_and_redis_even_when_redis_is_wiped(servers):
    bonewatch, pacs, redis_url = servers
    files = sorted(SAMPLES.glob("0[1-3]*/*.dcm"))

    # 1. Listener and schedule alone: the studies close, and their messages wait for a worker.
    upgraded = bonewatch.command("db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    bonewatch.start("listen")
    bonewatch.start_role("schedule")
    assert set(scu.push(bonewatch.port, [scu.message(path) for path in files])) == {0}
    bonewatch.wait_for("SELECT count(*) = 3 FROM jobs WHERE enqueued_at IS NOT NULL", 60, "three jobs wait")
    wait_until(lambda: queue_length(redis_url) >= 3, 10, "three messages wait")

    # 2. Redis forgets everything. The sweep finds that out and sends the messages again.
    run("redis-cli", "-u", redis_url, "FLUSHALL")
    wait_until(lambda: queue_length(redis_url) >= 3, 30, "the messages are back after a sweep")
    assert bonewatch.one("SELECT count(*) FROM jobs WHERE state = 'queued'") == 3

    # 3. A worker comes: every study is analysed once, reported once and committed.
    bonewatch.start_role("work")
    bonewatch.wait_until_committed(3, seconds=120)
    assert bonewatch.one("SELECT count(*) FROM jobs") == 3
    assert bonewatch.one("SELECT count(*) FROM v_results WHERE outcome IN ('present', 'inconclusive', 'absent')") == 3
    assert len(pacs.instances("SR")) == 3
    bonewatch.stop()


def queue_length(redis_url: str) -> int:
    return int(run("redis-cli", "-u", redis_url, "LLEN", "live").stdout)
