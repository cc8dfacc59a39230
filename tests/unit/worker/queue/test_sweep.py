from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from models.types import BundleError
from tests.databases import Clock, a_delivery, a_job, a_study, an_instance, sqlite_database
from tests.fakes_worker import VERSION, FakeQueue
from worker.db.tables import Delivery, Job, Study
from worker.operate.status import snapshot
from worker.queue.sweep import MOST_CHUNKS, SweepCollaborators, SweepRule, sweep
from worker.study import jobs


class Bench:
    def __init__(self, folder, page=200):
        self.database = sqlite_database(folder)
        self.queue, self.clock = FakeQueue(), Clock()
        self.bundle: BundleError | None = None
        self.parts = SweepCollaborators(
            self.database, self.queue, self._version, SweepRule(30, 10, 3, page), self.clock
        )

    def _version(self) -> str:
        if self.bundle is not None:
            raise self.bundle
        return VERSION

    def jobs(self, count=1, **values) -> list[int]:
        with self.database.write() as session:
            first = (session.scalar(select(func.max(Job.id))) or 0) + 1
            waiting = {"state": "queued", "outcome": None, "finished_at": None, "model_version": VERSION}
            return [
                a_job(session, a_study(session, number), **(waiting | values)).id
                for number in range(first, first + count)
            ]

    def sweep(self, seconds=0.0):
        self.clock.advance(seconds)
        return sweep(self.parts)

    def sent(self) -> list[int]:
        return [job_id for job_id, _ in self.queue.jobs]

    def row(self, table, key):
        with self.database.read() as session:
            found = session.get_one(table, key)
            session.expunge(found)
            return found


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def test_a_quiet_study_is_closed_and_its_job_sent_in_the_same_sweep(bench):
    with bench.database.write() as session:
        an_instance(session, a_study(session, state="receiving", completed_at=None))

    counts = bench.sweep(60)

    assert (counts["studies_closed"], counts["jobs_sent"]) == (1, 1)
    assert bench.queue.jobs == [(1, "live")]


def test_a_live_job_is_sent_once_and_an_archive_job_makes_a_chunk_message(bench):
    live, _ = bench.jobs(lane="live"), bench.jobs(lane="archive")

    bench.sweep()
    bench.sweep(5)

    assert bench.queue.jobs == [(live[0], "live")]
    assert bench.queue.chunks == 1


def test_the_archive_queue_holds_a_message_a_chunk_and_never_more_than_the_workers_can_take(bench):
    bench.jobs(17, lane="archive")
    assert bench.sweep()["jobs_sent"] == 3

    bench.parts = replace(bench.parts, rule=SweepRule(chunk=1))
    bench.jobs(100, lane="archive")
    bench.sweep()
    bench.sweep(60)

    assert bench.queue.chunks == MOST_CHUNKS


def test_a_wiped_archive_queue_is_filled_again(bench):
    bench.jobs(9, lane="archive")
    bench.sweep()
    bench.queue.wipe()

    assert bench.sweep(5)["jobs_sent"] == 2


def test_a_broker_that_is_down_leaves_jobs_unsent_for_the_next_sweep(bench):
    ids = bench.jobs(3)
    bench.queue.down = True
    assert bench.sweep()["jobs_sent"] == -1
    bench.queue.down = False

    assert bench.sweep(5)["jobs_sent"] == 3
    assert bench.sent() == ids


def test_a_wiped_broker_is_filled_again(bench):
    ids = bench.jobs(5)
    bench.sweep()
    bench.queue.wipe()

    assert bench.sweep(9)["jobs_sent"] == 0
    assert bench.sweep(1)["jobs_sent"] == 5
    assert sorted(bench.sent()) == ids


def test_a_long_queue_is_not_flooded_with_doubles(bench):
    bench.jobs(50)
    bench.sweep()
    for _ in range(10):
        bench.sweep(60)

    assert len(bench.queue.jobs) == 50


def test_only_as_many_messages_as_are_missing_are_sent_again_oldest_first(bench):
    ids = bench.jobs(2)
    bench.sweep()
    younger = bench.jobs(2)
    bench.sweep(1)
    bench.queue.jobs = bench.queue.jobs[:3]

    assert bench.sweep(60)["jobs_sent"] == 1
    assert bench.sent()[3:] == ids[:1]
    assert bench.sent()[2] == younger[0]


def test_a_job_that_is_held_back_is_sent_when_it_is_due(bench):
    (job_id,) = bench.jobs()
    held = jobs.claim(bench.database, job_id, worker="w", lease_seconds=60, now=bench.clock())
    jobs.fail_attempt(bench.database, held, reason="x", now=bench.clock(), maximum_attempts=3)

    assert bench.sweep(4)["jobs_sent"] == 0
    assert bench.sweep(1)["jobs_sent"] == 1


def test_a_job_whose_worker_was_lost_is_sent_again(bench):
    (job_id,) = bench.jobs()
    bench.sweep()
    jobs.claim(bench.database, job_id, worker="w", lease_seconds=60, now=bench.clock())
    bench.queue.wipe()

    assert bench.sweep(59)["jobs_sent"] == 0
    counts = bench.sweep(2)

    assert (counts["jobs_released"], counts["jobs_sent"]) == (1, 1)


def test_running_and_finished_jobs_are_never_sent(bench):
    bench.jobs(state="running")
    bench.jobs(state="done")
    bench.jobs(state="failed")

    bench.sweep()

    assert bench.queue.jobs == []


def test_a_page_bounds_one_sweep_and_the_next_goes_on(tmp_path):
    bench = Bench(tmp_path, page=2)
    bench.jobs(3)

    assert [bench.sweep()["jobs_sent"], bench.sweep(1)["jobs_sent"], bench.sweep(1)["jobs_sent"]] == [2, 1, 0]
    bench.database.close()


def test_a_missing_bundle_keeps_studies_open_and_stops_nothing_else(bench):
    with bench.database.write() as session:
        an_instance(session, a_study(session, 99, state="receiving", completed_at=None))
    bench.jobs()
    bench.bundle = BundleError("no readable bundle.json")

    counts = bench.sweep(60)

    assert (counts["studies_closed"], counts["jobs_replanned"], counts["jobs_sent"]) == (-1, -1, 1)
    bench.bundle = None
    assert bench.sweep()["studies_closed"] == 1


def test_two_sweeps_at_once_are_harmless(bench):
    with bench.database.write() as session:
        an_instance(session, a_study(session, state="receiving", completed_at=None))
    bench.clock.advance(60)
    barrier = threading.Barrier(2)

    def run():
        barrier.wait()
        sweep(bench.parts)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(bench.sent()) == {1}
    claims = [
        jobs.claim(bench.database, job_id, worker="w", lease_seconds=60, now=bench.clock()) for job_id in bench.sent()
    ]
    assert len([held for held in claims if held]) == 1


def deliveries(bench, *states, **values) -> list[int]:
    with bench.database.write() as session:
        job = a_job(session, a_study(session, 70))
        return [
            a_delivery(session, job, f"pacs{number}", state=state, **values).id for number, state in enumerate(states)
        ]


def test_deliveries_that_are_due_are_sent_and_finished_ones_are_not(bench):
    ids = deliveries(bench, "pending", "sent", "committed", "failed", "sending")

    bench.sweep()

    assert sorted(bench.queue.deliveries) == ids[:2]


def test_deliveries_do_not_flood_a_control_queue_that_nobody_empties(tmp_path):
    bench = Bench(tmp_path, page=4)
    deliveries(bench, *["pending"] * 10)
    for _ in range(10):
        bench.sweep(10)

    assert len(bench.queue.deliveries) == 4
    bench.database.close()


def test_a_delivery_whose_sender_was_lost_is_pending_again(bench):
    (lost,) = deliveries(bench, "sending", lease_token="t")
    with bench.database.write() as session:
        session.execute(update(Delivery).values(lease_until=bench.clock()))

    assert bench.sweep(1)["deliveries_released"] == 1
    assert bench.row(Delivery, lost).state == "pending"
    assert "was lost" in bench.row(Delivery, lost).reason
    assert bench.queue.deliveries == [lost]


def test_the_status_is_told_although_the_broker_is_down(bench):
    bench.queue.down = True
    bench.jobs(2, reason="this worker has no usable model")
    deliveries(bench, "failed", reason="it refuses")

    status = snapshot(bench.database, bench.queue, bench.clock())

    assert status.queues is None
    assert status.broker_error == "the broker does not answer"
    assert status.jobs == {"done": 1, "queued": 2}
    assert status.waiting_with_reason == (("this worker has no usable model", 2),)
    assert [(each.kind, each.reason) for each in status.failures] == [("delivery", "pacs0: it refuses")]
    assert status.outcomes == {"absent": 1}


def test_the_status_leaves_out_what_a_newer_analysis_has_replaced(bench):
    (failed,) = deliveries(bench, "failed", reason="the report's file is missing")
    with bench.database.write() as session:
        study = session.get_one(Job, session.get_one(Delivery, failed).report.job_id).study
        a_job(session, study, revision=2, state="done", outcome="absent")

    assert snapshot(bench.database, bench.queue, bench.clock()).failures == ()


def test_the_status_counts_all_that_is_unfinished_and_what_was_finished_in_a_day(bench):
    with bench.database.write() as session:
        for number, hours in enumerate((1, 25), start=1):
            done = a_job(session, a_study(session, number), finished_at=bench.clock() - timedelta(hours=hours))
            a_delivery(session, done, state="committed", committed_at=done.finished_at)
        a_job(session, a_study(session, 3), state="queued", outcome=None, finished_at=None)
        a_delivery(session, a_job(session, a_study(session, 4), finished_at=done.finished_at), state="failed")

    status = snapshot(bench.database, bench.queue, bench.clock())

    assert status.jobs == {"done": 1, "queued": 1}
    assert status.outcomes == {"absent": 1}
    assert status.deliveries == {"committed": 1, "failed": 1}


def test_a_study_counts_how_often_it_was_complete(bench):
    with bench.database.write() as session:
        an_instance(session, a_study(session, state="receiving", completed_at=None))
    bench.sweep(60)
    with bench.database.write() as session:
        study = session.get_one(Study, 1)
        study.state = "receiving"
        an_instance(session, study, 2)
    bench.sweep(60)

    assert bench.row(Study, 1).revision == 2


def test_the_status_counts_messages_and_names_running_jobs(bench):
    (job_id,) = bench.jobs()
    bench.sweep()
    jobs.claim(bench.database, job_id, worker="host:1", lease_seconds=60, now=bench.clock())

    status = snapshot(bench.database, bench.queue, bench.clock())

    assert status.queues == {"live": 1, "archive": 0, "control": 0}
    assert [(each.job_id, each.claimed_by, each.attempts) for each in status.running] == [(job_id, "host:1", 1)]
