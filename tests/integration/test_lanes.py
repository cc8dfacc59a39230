"""Real workers with a backlog of archive studies: today's work first, nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.bench import lanes
from tests.peers import wait_until
from tests.processes import children
from tests.worker_processes import Site, running_site

pytestmark = pytest.mark.slow


def backlog(site: Site, studies: int) -> None:
    for number in range(studies):
        site.receive(f"archive-{number}")
    site.into_archive()


def assert_one_result_each(site: Site, studies: int) -> None:
    assert site.rows("SELECT state, count(*) FROM jobs GROUP BY state") == [("done", studies)]
    assert site.one("SELECT count(*) FROM image_results") == studies
    assert site.one("SELECT count(*) FROM reports WHERE state = 'built'") == studies


def test_a_live_study_overtakes_a_running_backlog(tmp_path):
    found = lanes.measure(tmp_path, archive=40, live=2, model_seconds=0.5)

    assert found.archive_left > 0, "the backlog was still there when the last live study had its report"
    # A whole backlog would take forty times half a second; a chunk takes five seconds at the most.
    assert max(found.loaded) < max(found.idle) + 10


def test_a_pool_process_killed_in_the_middle_of_a_chunk_leaves_one_result_a_study(tmp_path):
    with running_site(tmp_path) as site:
        backlog(site, 10)
        site.start("schedule")
        worker = site.start_program(sys.executable, "-m", "tests.bench.stand_in", "0.3")
        wait_until(lambda: site.one("SELECT count(*) FROM jobs WHERE state = 'running'") == 2, 120, "two at once")

        for pid in children(worker.pid):
            os.kill(pid, signal.SIGKILL)

        site.wait_for_jobs(10)
        assert_one_result_each(site, 10)
        assert site.one("SELECT max(attempts) FROM jobs") == 2


def test_the_real_model_does_a_backlog_in_chunks(tmp_path):
    with running_site(tmp_path) as site:
        backlog(site, 6)
        site.start("schedule")
        site.start("work")

        site.wait_for_jobs(6)
        assert_one_result_each(site, 6)
