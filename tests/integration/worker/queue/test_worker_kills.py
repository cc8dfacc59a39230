"""Workers whose model waits: killed in its middle, told twice, left by their broker, overtaken by today's work.

What waits is a stand-in for the model; broker, database, store, scheduler, worker and its pool are real. All tests
share one installation, as a site does that has seen many crashes; each puts in studies of its own.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from models.manifest import read_manifest
from tests.peers import wait_until
from tests.processes import children, reap
from tests.worker_processes import Site, running_site, shadow_bundle
from worker.bundles.promotion import end_shadow, run_in_shadow
from worker.operate.status import snapshot
from worker.queue.app import create_app
from worker.study.queues import CeleryQueue

pytestmark = pytest.mark.slow

JOBS = "SELECT j.purpose, j.lane, j.state, j.attempts FROM jobs j WHERE j.study_id = :study ORDER BY j.purpose"
RESULTS = """
    SELECT j.purpose, count(*), count(DISTINCT i.instance_id) FROM image_results i JOIN jobs j ON j.id = i.job_id
    WHERE j.study_id = :study GROUP BY j.purpose ORDER BY j.purpose
"""
REPORTS = "SELECT count(*) FROM reports r JOIN jobs j ON j.id = r.job_id WHERE j.study_id = :study"
OPEN = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"


class HeldSite:
    """A site with a scheduler, and a worker whose model waits while `held`."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.queue = CeleryQueue(create_app(site.settings))
        self.second = shadow_bundle(folder / "second")
        self.bundle = folder / "bundle"
        self._holds = folder / "holds"
        self._holds.mkdir()
        site.start("schedule")
        self.start_worker()

    def start_worker(self) -> None:
        self.worker = self.site.start_program(sys.executable, "-m", "tests.bench.stand_in", "0", str(self._holds))

    @contextmanager
    def held(self, bundle: Path | None = None):
        """Let the model of a bundle, the site's own unless another is named, answer nothing in the meantime."""
        hold = self._holds / read_manifest(bundle or self.bundle).version
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    def receive(self, name: str, images: int = 2, *, archive: bool = False) -> int:
        """Take in a study and return its number."""
        self.site.receive(name, images)
        if archive:
            self.site.into_archive()
        return int(self.site.one("SELECT max(id) FROM studies"))

    def settle(self, *studies: int) -> None:
        """Wait until these studies have answers and no job is open."""
        done = "SELECT count(*) FROM jobs WHERE study_id = :study AND state = 'done'"
        for study in studies:
            wait_until(lambda study=study: self.site.one(done, study=study), 120, f"study {study} is answered")
        wait_until(lambda: self.site.one(OPEN) == 0, 120, "no job is open")

    def kill_pool(self) -> None:
        for pid in children(self.worker.pid):
            os.kill(pid, signal.SIGKILL)

    def kill_worker(self) -> None:
        pool = children(self.worker.pid)
        self.worker.kill()
        self.worker.wait()
        wait_until(lambda: not living(pool), 10, "its pool is gone")
        self.start_worker()


def living(pids: list[int]) -> list[int]:
    """Return those that still run; the orphaned among them are this process's to reap."""
    reap()
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held")
    # Long enough for a busy machine, short enough to be waited for after a kill.
    with running_site(folder, lease_seconds=6) as site:
        yield HeldSite(site, folder)


@pytest.mark.parametrize(("lane", "victim"), [("live", "kill_pool"), ("live", "kill_worker"), ("archive", "kill_pool")])
def test_what_is_killed_in_the_middle_of_an_analysis_leaves_one_result_and_no_process(held, lane, victim):
    with held.held():
        study = held.receive(f"{lane}-{victim}", archive=lane == "archive")
        held.site.wait_until_running(study_id=study)
        getattr(held, victim)()
        assert held.site.rows(JOBS, study=study) == [("answer", lane, "running", 1)]

    held.settle(study)
    ((*job, attempts),) = held.site.rows(JOBS, study=study)
    assert job == ["answer", lane, "done"]
    assert attempts >= 2
    assert held.site.rows(RESULTS, study=study) == [("answer", 2, 2)]
    assert held.site.one(REPORTS, study=study) == 1


def test_a_pool_process_killed_in_the_middle_of_a_shadow_leaves_one_result_of_it_and_the_answer_as_it_was(held):
    run_in_shadow(held.second, held.site.settings.home, datetime.now(UTC))
    with held.held(held.second):
        study = held.receive("shadowed")
        held.site.wait_until_running(study_id=study, purpose="shadow")
        held.kill_pool()
        assert held.site.rows(JOBS, study=study) == [("answer", "live", "done", 1), ("shadow", "archive", "running", 1)]

    held.settle(study)
    assert held.site.rows(JOBS, study=study) == [("answer", "live", "done", 1), ("shadow", "archive", "done", 2)]
    assert held.site.rows(RESULTS, study=study) == [("answer", 2, 2), ("shadow", 2, 2)]
    assert held.site.one(REPORTS, study=study) == 1
    end_shadow(held.site.settings.home, datetime.now(UTC))


def test_a_live_study_overtakes_a_running_backlog(held):
    """A patient of now waits for what is being analysed, and for no more of the archive."""
    with held.held():
        backlog = [held.receive(f"backlog-{number}", images=1, archive=True) for number in range(24)]
        held.site.wait_until_running(lane="archive")
        live = held.receive("today", images=1)
        wait_until(lambda: held.queue.lengths()["live"] >= 1, 60, "the live study's message waits")

    held.settle(live, *backlog)
    began = "SELECT count(*) FROM jobs a, jobs l WHERE a.lane = 'archive' AND a.started_at {} l.started_at"
    assert held.site.one(f"{began.format('>')} AND l.study_id = :live", live=live) >= 24 - 4
    doubled = (
        "SELECT count(*) FROM (SELECT 1 FROM image_results GROUP BY job_id, instance_id HAVING count(*) > 1) AS twice"
    )
    assert held.site.one(doubled) == 0


def test_the_same_message_three_times_while_it_is_worked_on_gives_one_result(held):
    with held.held():
        study = held.receive("tripled")
        held.site.wait_until_running(study_id=study)
        for _ in range(3):
            held.queue.send_job(held.site.one("SELECT max(id) FROM jobs"), "live")

    held.settle(study)
    wait_until(lambda: held.queue.lengths()["live"] == 0, 30, "all messages are read")
    assert held.site.rows(JOBS, study=study) == [("answer", "live", "done", 1)]
    assert held.site.rows(RESULTS, study=study) == [("answer", 2, 2)]


def test_a_broker_wiped_while_jobs_wait_loses_nothing(held):
    with held.held():
        studies = [held.receive(f"wiped-{number}") for number in range(3)]
        wait_until(lambda: held.queue.lengths()["live"] >= 2, 60, "jobs wait in the queue")
        wipe(held.site)
    held.settle(*studies)

    wipe(held.site)
    held.settle(held.receive("after the wipe"))
    for study in studies:
        assert held.site.rows(JOBS, study=study) == [("answer", "live", "done", 1)]
        assert held.site.one(REPORTS, study=study) == 1


def test_a_broker_that_is_away_while_a_job_ends_finds_its_workers_again(held):
    """Needs `worker.queue.redis_transport`: kombu's own leaves the worker waiting for good."""
    with held.held():
        before = held.receive("before")
        held.site.wait_until_running(study_id=before)
        held.site.broker.stop()
        meanwhile = held.receive("meanwhile")
        assert snapshot(held.site.database, held.queue).queues is None
    held.site.wait_for_jobs(1 + held.site.one("SELECT count(*) FROM jobs WHERE state = 'done'"))
    held.site.broker.start()

    held.settle(before, meanwhile)
    assert held.site.rows(JOBS, study=before) == [("answer", "live", "done", 1)]


def wipe(site: Site) -> None:
    with Redis(unix_socket_path=str(site.broker.socket)) as redis:
        redis.flushall()
