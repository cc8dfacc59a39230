"""Real worker processes on the embedded broker: what a wipe, a double, and `kill -9` leave behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from redis import Redis

from tests.peers import wait_until
from tests.processes import children, reap
from tests.worker_processes import Site, running_site
from worker.errors import QueueUnavailable
from worker.operate.status import snapshot
from worker.queue.app import create_app
from worker.study.queues import CeleryQueue

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path):
    with running_site(tmp_path) as site:
        yield site


def queue(site: Site) -> CeleryQueue:
    return CeleryQueue(create_app(site.settings))


def wipe(site: Site) -> None:
    with Redis(unix_socket_path=str(site.broker.socket)) as redis:
        redis.flushall()


def assert_one_of_each(site: Site, studies: int) -> None:
    assert site.rows("SELECT state, count(*) FROM jobs GROUP BY state") == [("done", studies)]
    assert site.one("SELECT count(*) FROM image_results") == site.one("SELECT count(*) FROM instances")
    assert site.one("SELECT count(*) FROM reports WHERE state = 'built'") == studies
    assert len(list((site.settings.store / "reports").iterdir())) == studies


def living(pids: list[int]) -> list[int]:
    """Return those that still run; the orphaned among them are this process's to reap."""
    reap()
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def wait_until_running(site: Site) -> None:
    wait_until(lambda: site.one("SELECT count(*) FROM jobs WHERE state = 'running'"), 60, "a job runs", every=0.01)


def test_studies_are_analysed_and_workers_stop_when_asked(site):
    site.receive("one")
    site.receive("two", images=2)
    workers = [site.start("work"), site.start("schedule")]

    site.wait_for_jobs(2)
    pools = children(workers[0].pid)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)

    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert not living(pools)
    assert_one_of_each(site, 2)
    # No schedule file of the beat, no pid file of Celery: the home holds what is ours.
    names = {path.name for path in site.settings.home.iterdir() if not path.name.startswith("bonewatch.sqlite3")}
    assert names == {"broker", "run", "store"}


def test_a_broker_wiped_while_jobs_wait_and_workers_run_loses_nothing(site):
    for number in range(4):
        site.receive(f"study-{number}")
    site.start("schedule")
    wait_until(lambda: queue(site).lengths()["live"] >= 4, 60, "all jobs are in the queue")
    wipe(site)
    site.start("work")
    site.wait_for_jobs(4)

    wipe(site)
    site.receive("after the wipe")
    site.wait_for_jobs(5)

    assert_one_of_each(site, 5)


def test_a_broker_that_is_away_while_a_job_ends_finds_its_workers_again(site):
    """Needs `worker.queue.redis_transport`: kombu's own leaves the worker waiting for good."""
    site.start("schedule")
    site.start("work")
    site.receive("before", images=60)
    wait_until_running(site)

    site.broker.stop()
    site.receive("meanwhile")
    assert snapshot(site.database, queue(site)).queues is None
    site.wait_for_jobs(1)
    site.broker.start()

    site.wait_for_jobs(2)
    assert_one_of_each(site, 2)


def test_the_same_message_three_times_gives_one_result(site):
    site.receive("one")
    site.start("schedule")
    site.wait_for_jobs(1, state="queued")
    for _ in range(3):
        queue(site).send_job(1, "live")
    site.start("work")

    site.wait_for_jobs(1)
    wait_until(lambda: queue(site).lengths()["live"] == 0, 30, "all messages are read")

    assert_one_of_each(site, 1)
    assert site.one("SELECT attempts FROM jobs") == 1


def test_a_pool_process_killed_while_it_analyses_leaves_one_result(site):
    site.receive("long", images=120)
    site.start("schedule")
    worker = site.start("work")
    wait_until_running(site)

    for pid in children(worker.pid):
        os.kill(pid, signal.SIGKILL)

    site.wait_for_jobs(1)
    assert_one_of_each(site, 1)
    assert site.one("SELECT attempts FROM jobs") == 2


def test_a_whole_worker_killed_while_it_analyses_leaves_one_result_and_no_process(site):
    site.receive("long", images=120)
    site.start("schedule")
    worker = site.start("work")
    wait_until_running(site)
    pools = children(worker.pid)

    worker.kill()
    worker.wait()
    wait_until(lambda: not living(pools), 10, "its pool is gone")
    site.start("work")

    site.wait_for_jobs(1)
    assert_one_of_each(site, 1)


def test_a_worker_without_a_bundle_gives_work_back_with_the_reason_and_does_it_once_mended(tmp_path):
    with running_site(tmp_path) as site:
        weights = next((tmp_path / "bundle").glob("*.safetensors"))
        sound = weights.read_bytes()
        weights.write_bytes(sound[:-1])
        site.receive("one")
        site.start("schedule")
        site.start("work")

        wait_until(lambda: snapshot(site.database, queue(site)).waiting_with_reason, 60, "the reason is told")
        ((reason, count),) = snapshot(site.database, queue(site)).waiting_with_reason
        assert reason.startswith("this worker has no usable model: ")
        assert count == 1
        assert site.rows("SELECT state, attempts FROM jobs") == [("queued", 0)]

        weights.write_bytes(sound)
        site.wait_for_jobs(1, seconds=90)
        assert_one_of_each(site, 1)


def test_without_a_broker_sending_and_counting_fail_soon_and_in_words(tmp_path):
    site = Site(tmp_path)
    try:
        with pytest.raises(QueueUnavailable, match="does not answer"):
            queue(site).send_job(1, "live")
        with pytest.raises(QueueUnavailable, match="does not answer"):
            queue(site).lengths()
    finally:
        site.close()
