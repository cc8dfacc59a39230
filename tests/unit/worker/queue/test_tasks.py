from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy import update

from dicom_io.errors import StoreError
from tests.databases import MORNING, Clock, a_study, an_instance, sqlite_database
from tests.fakes_worker import VERSION, FakeAnalyzer, FakeFrames, FakeQueue, FakeStore, fake_report
from worker.db.leases import Heartbeat
from worker.db.tables import Job, utc_now
from worker.errors import DatabaseUnavailable, EnvironmentUnfit, LeaseLost
from worker.queue.app import create_app
from worker.queue.tasks import run_analysis, run_sweep
from worker.settings.settings import load_settings
from worker.study import jobs
from worker.study.pipeline import Collaborators, ReportRule
from worker.study.queues import ANALYZE, DELIVER, SWEEP
from worker.study.studies import add_job, current_digest


class FakeRuntime:
    def __init__(self, folder):
        self.database, self.queue, self.store = sqlite_database(folder), FakeQueue(), FakeStore(folder)
        self.settings = SimpleNamespace(lease_seconds=60.0)
        self.analyzer, self.unfit = FakeAnalyzer(), None
        with self.database.write() as session:
            study = a_study(session)
            an_instance(session, study)
            digest = current_digest(session, study.id)
            self.job_id = add_job(session, study.id, digest=digest, model_version=VERSION, lane="live", now=MORNING)
        self.store.add("instances/1.dcm")

    def pipeline(self):
        if self.unfit is not None:
            raise self.unfit
        return Collaborators(
            self.database, self.store, FakeFrames(), self.analyzer, fake_report, "bonewatch", ("pacs",), ReportRule(),
            utc_now,
        )  # fmt: skip

    def sweeper(self):
        raise DatabaseUnavailable("locked")

    def job(self):
        with self.database.read() as session:
            job = session.get_one(Job, self.job_id)
            session.expunge(job)
            return job


@pytest.fixture
def runtime(tmp_path):
    runtime = FakeRuntime(tmp_path)
    yield runtime
    runtime.database.close()


def test_a_message_leads_to_a_result_and_its_doubles_to_nothing(runtime):
    for _ in range(3):
        run_analysis(runtime.job_id, runtime)

    assert runtime.job().state == "done"
    assert runtime.analyzer.calls == 1
    assert runtime.queue.deliveries == [1]


def test_a_broker_that_is_down_after_the_commit_changes_nothing(runtime):
    runtime.queue.down = True

    run_analysis(runtime.job_id, runtime)

    assert runtime.job().state == "done"


def test_a_worker_without_a_model_claims_nothing_and_says_so(runtime):
    runtime.unfit = EnvironmentUnfit("this worker has no usable model: no readable bundle.json")

    run_analysis(runtime.job_id, runtime)

    job = runtime.job()
    assert (job.state, job.attempts, job.reason) == ("queued", 0, str(runtime.unfit))
    assert job.next_attempt_at > utc_now()


@pytest.mark.parametrize(
    ("error", "attempts", "reason"),
    [
        (StoreError("no space left"), 0, "no space left"),
        (EnvironmentUnfit("is its disk mounted?"), 0, "is its disk mounted?"),
        (RuntimeError("DOE^JOHN"), 1, "unexpected error (RuntimeError)"),
        (MemoryError(), 1, "unexpected error (MemoryError)"),
    ],
)
def test_the_environments_fault_counts_as_no_attempt_and_any_other_does(runtime, error, attempts, reason, capsys):
    runtime.analyzer = FakeAnalyzer(error)

    run_analysis(runtime.job_id, runtime)

    job = runtime.job()
    assert (job.state, job.attempts, job.reason) == ("queued", attempts, reason)
    assert job.next_attempt_at > utc_now()
    assert "DOE" not in capsys.readouterr().out


def test_a_database_that_is_away_before_the_claim_ends_the_message_quietly(runtime):
    runtime.unfit = DatabaseUnavailable("locked")

    run_analysis(runtime.job_id, runtime)

    assert (runtime.job().state, runtime.job().attempts) == ("queued", 0)


def test_a_worker_that_slept_through_its_lease_finds_out_before_it_writes_a_report(runtime):
    clock = Clock()
    held = jobs.claim(runtime.database, runtime.job_id, worker="w", lease_seconds=60, now=clock())
    heartbeat = Heartbeat(runtime.database, held.lease, clock)
    jobs.put_back(runtime.database, held, reason="x", now=clock(), wait_seconds=0)
    heartbeat.check()

    clock.advance(61)

    with pytest.raises(LeaseLost):
        heartbeat.check()


def test_a_study_that_breaks_every_attempt_is_failed_with_its_reason(runtime):
    runtime.analyzer = FakeAnalyzer(RuntimeError())
    with runtime.database.write() as session:
        session.execute(update(Job).values(attempts=jobs.MAXIMUM_ATTEMPTS - 1))

    run_analysis(runtime.job_id, runtime)

    assert (runtime.job().state, runtime.job().outcome) == ("failed", "failed")


def test_a_sweep_without_a_database_ends_quietly(runtime):
    run_sweep(runtime)


def test_a_heartbeat_renews_until_the_job_is_somebody_elses(runtime):
    held = jobs.claim(runtime.database, runtime.job_id, worker="w", lease_seconds=60, now=MORNING)
    heartbeat = Heartbeat(runtime.database, held.lease, utc_now)

    heartbeat.beat()
    assert runtime.job().lease_until > utc_now()
    heartbeat.check()

    jobs.put_back(runtime.database, held, reason="x", now=MORNING, wait_seconds=0)
    heartbeat.beat()
    with pytest.raises(LeaseLost):
        heartbeat.check()


def test_a_heartbeat_beats_by_itself_and_stops_when_it_is_left(runtime):
    held = jobs.claim(runtime.database, runtime.job_id, worker="w", lease_seconds=0.03, now=MORNING)
    with Heartbeat(runtime.database, held.lease, utc_now) as heartbeat:
        jobs.put_back(runtime.database, held, reason="x", now=MORNING, wait_seconds=0)
        heartbeat._lost.wait(60)
        with pytest.raises(LeaseLost):
            heartbeat.check()
    assert not heartbeat._thread.is_alive()


def test_a_database_that_does_not_answer_for_a_while_is_no_lost_lease(runtime):
    class Away:
        def write(self):
            raise DatabaseUnavailable("locked")

    held = jobs.claim(runtime.database, runtime.job_id, worker="w", lease_seconds=60, now=MORNING)
    heartbeat = Heartbeat(Away(), held.lease, utc_now)

    heartbeat.beat()

    heartbeat.check()


def test_the_application_carries_ids_in_json_and_trusts_sql(tmp_path):
    app = create_app(load_settings(home=tmp_path))

    assert {ANALYZE, DELIVER, SWEEP} <= set(app.tasks)
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.result_backend is None
    assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"
