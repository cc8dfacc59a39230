"""A model in shadow sees what is pushed; what it says is stored, and is nobody's answer."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text, update

from models.types import BundleError
from tests.databases import MORNING, Clock, a_delivery, a_job, a_study, an_instance, sqlite_database
from tests.fakes_worker import PRESENT, VERSION, FakeAnalyzer, FakeQueue
from tests.unit.worker.queue.test_chunk import FakeRuntime
from worker.db.tables import Event, Job, Report, Study, utc_now
from worker.errors import EnvironmentUnfit
from worker.operate.model_changes import changes, earlier_model
from worker.operate.results import jobs as all_jobs
from worker.operate.results import results
from worker.operate.retries import needs_analysis, retry_failed, retry_study
from worker.operate.status import snapshot
from worker.queue.chunk import run_chunk
from worker.queue.chunk_rule import ChunkRule
from worker.queue.sweep import SweepCollaborators, SweepRule, sweep
from worker.reanalysis.runs import Request
from worker.reanalysis.store import unanswered
from worker.storage.file_removal import settled
from worker.study import jobs
from worker.study.studies import Models, close_quiet_studies, end_shadows, replan

SHADOW = "2026-04-01-second+89abcdef"


class ShadowRuntime(FakeRuntime):
    """A worker with a second model, and studies that are closed as the sweep closes them."""

    def __init__(self, folder):
        super().__init__(folder, sqlite_database(folder))
        self.rule = ChunkRule(studies=8, seconds=60, at_once=1)
        self.second = FakeAnalyzer(PRESENT, version=SHADOW)
        self.broken = None

    def push(self, number, source="push", shadow=SHADOW, **image):
        self.store.add(f"instances/{number}.dcm")
        with self.database.write() as session:
            study = a_study(session, number, state="receiving", completed_at=None, source=source)
            an_instance(session, study, number, **image)
        return close_quiet_studies(self.database, Models(VERSION, shadow), quiet_seconds=0, now=MORNING, limit=9)

    def answer(self, job_id):
        held = jobs.claim(self.database, job_id, worker="w", lease_seconds=60, now=MORNING)
        with self.database.write() as session:
            session.execute(
                update(Job).where(jobs.holds(held)).values(state="done", outcome="absent", finished_at=MORNING)
            )

    def shadow_version(self):
        return SHADOW if self.second else None

    def shadow_analyzer(self):
        if self.broken is not None:
            raise EnvironmentUnfit(self.broken)
        return self.second

    def said(self):
        return [(job.model_version, job.purpose, job.state, job.outcome) for job in self.jobs()]


@pytest.fixture
def runtime(tmp_path):
    runtime = ShadowRuntime(tmp_path)
    yield runtime
    runtime.database.close()


def queued(runtime, purpose):
    return [job.id for job in runtime.jobs() if (job.purpose, job.state) == (purpose, "queued")]


def test_a_pushed_study_gets_a_job_in_shadow_and_nothing_else_does(runtime):
    assert runtime.push(1) == (1,)
    runtime.push(2, source="get")
    runtime.push(3, out_of_scope_reason="not a radiograph")
    runtime.push(4, shadow=None)

    found = [(job.study_id, job.purpose, job.lane, job.revision) for job in runtime.jobs()]
    assert found == [
        (1, "answer", "live", 1), (1, "shadow", "archive", 0), (2, "answer", "archive", 1), (3, "answer", "live", 1),
        (4, "answer", "live", 1),
    ]  # fmt: skip


def test_the_answer_is_reported_and_the_shadow_only_stored(runtime):
    runtime.push(1)

    assert run_chunk(runtime) == 2

    assert runtime.said() == [(VERSION, "answer", "done", "absent"), (SHADOW, "shadow", "done", "present")]
    with runtime.database.read() as session:
        assert session.scalars(select(Report.job_id)).all() == [1]
        assert session.scalar(text("SELECT count(*) FROM v_findings")) == 0
        assert session.scalar(select(func.count()).where(Event.kind == "report_withheld")) == 0
        assert session.scalar(text("SELECT count(*) FROM findings")) == 1
    (row,) = results(runtime.database)
    assert (row.outcome, row.model_version, row.job_id, row.update_pending) == ("absent", VERSION, 1, 0)
    assert runtime.queue.deliveries == [1]


def test_a_shadow_that_waits_or_runs_leaves_the_result_final_and_the_next_answer_free(runtime):
    runtime.push(1)
    runtime.answer(1)
    held = jobs.claim_next(runtime.database, "archive", worker="w", lease_seconds=60, now=MORNING, shadow=SHADOW)
    assert held is not None
    (row,) = results(runtime.database)
    assert row.update_pending == 0

    again = retry_study(runtime.database, row.study_instance_uid, model_version=VERSION)

    assert jobs.claim(runtime.database, again, worker="w", lease_seconds=60, now=utc_now()) is not None


def test_every_answer_goes_before_every_shadow(runtime):
    runtime.push(1)
    runtime.push(2)
    runtime.add(3)

    run_chunk(runtime)

    with runtime.database.read() as session:
        order = session.scalars(select(Event.job_id).where(Event.kind == "analysed").order_by(Event.id)).all()
    assert (sorted(order[:3]), order[3:]) == ([1, 3, 5], [2, 4])


def test_an_answer_that_comes_ends_the_shadows_of_a_chunk(runtime):
    for number in (1, 2):
        runtime.answer(*runtime.push(number))

    def answer(pixels):
        if not queued(runtime, "answer"):
            runtime.add(3)
        return PRESENT

    runtime.second = FakeAnalyzer(answer, version=SHADOW)

    assert run_chunk(runtime) == 1

    assert (len(queued(runtime, "answer")), len(queued(runtime, "shadow"))) == (1, 1)


def test_a_study_without_an_answer_is_not_shown_to_the_shadow(runtime):
    runtime.push(1)
    with runtime.database.write() as session:
        session.execute(update(Job).where(Job.purpose == "answer").values(state="failed", outcome="failed"))

    assert run_chunk(runtime) == 0
    assert queued(runtime, "shadow") == [2]


def test_a_shadow_that_cannot_be_loaded_holds_back_its_own_jobs_and_says_why(runtime):
    runtime.push(1)
    runtime.broken = "its weights are damaged"

    assert run_chunk(runtime) == 1

    answer, shadow = runtime.jobs()
    assert answer.state == "done"
    assert (shadow.state, shadow.attempts, shadow.reason) == ("queued", 0, "its weights are damaged")
    assert snapshot(runtime.database, runtime.queue).waiting_with_reason == (("its weights are damaged", 1),)


def test_a_worker_without_the_bundle_leaves_the_jobs_to_those_that_have_it(runtime):
    runtime.push(1)
    runtime.second = None

    assert run_chunk(runtime) == 1
    assert queued(runtime, "shadow") == [2]


def test_jobs_of_a_model_no_longer_in_shadow_end_with_the_reason_and_answers_are_left_alone(runtime):
    runtime.push(1)

    assert end_shadows(runtime.database, shadow=SHADOW, now=MORNING, limit=9) == 0
    assert end_shadows(runtime.database, shadow=None, now=MORNING, limit=9) == 1

    answer, shadow = runtime.jobs()
    assert (answer.state, shadow.state) == ("queued", "failed")
    assert shadow.reason == f"model {SHADOW} runs in shadow no longer"
    assert retry_failed(runtime.database, model_version=VERSION) == ()
    assert snapshot(runtime.database, runtime.queue).failures == ()


def test_a_new_current_model_takes_over_answers_and_no_shadow(runtime):
    runtime.push(1)

    assert replan(runtime.database, model_version="third", now=MORNING, limit=9) == 1

    assert [job.model_version for job in runtime.jobs()] == ["third", SHADOW]


def test_status_counts_shadows_apart_and_jobs_says_what_each_is_for(runtime):
    runtime.push(1)
    runtime.answer(1)
    found = snapshot(runtime.database, runtime.queue, MORNING)

    assert (found.jobs, found.shadows, found.outcomes) == ({"done": 1}, {"queued": 1}, {"absent": 1})
    assert found.oldest_queued_at is None
    assert [row.purpose for row in all_jobs(runtime.database)] == ["shadow", "answer"]


def test_what_a_shadow_failed_at_is_no_reason_to_do_the_study_again_nor_to_keep_its_files(runtime):
    with runtime.database.write() as session:
        study = a_study(session)
        a_delivery(session, a_job(session, study), state="committed", committed_at=MORNING)
        a_job(session, study, purpose="shadow", model_version=SHADOW, revision=0, state="failed", outcome="failed")

    assert not needs_analysis(runtime.database, "2.25.1")
    with runtime.database.read() as session:
        assert session.scalar(select(Study.id).where(settled())) == 1


def test_a_model_that_was_in_shadow_still_has_to_answer_when_it_is_current(runtime):
    runtime.push(1)
    run_chunk(runtime)

    with runtime.database.read() as session:
        assert session.scalar(select(Study.id).where(unanswered(Request(), SHADOW))) == 1
        assert session.scalar(select(Study.id).where(unanswered(Request(), VERSION))) is None


def test_what_the_shadow_says_is_compared_with_the_answer_and_only_where_asked_for(runtime):
    runtime.push(1)
    run_chunk(runtime)

    (row,) = changes(runtime.database, VERSION, SHADOW, shadow=True)
    assert (row.kind, row.from_job_id, row.to_job_id, row.shadow) == ("newly_suspected", 1, 2, 1)
    assert list(changes(runtime.database, VERSION, SHADOW)) == []
    assert earlier_model(runtime.database, VERSION) is None

    with runtime.database.write() as session:
        a_job(session, session.get_one(Study, 1), model_version=SHADOW, outcome="absent")
    assert [each.kind for each in changes(runtime.database, VERSION, SHADOW, unchanged=True)] == ["none"]
    assert len(list(changes(runtime.database, VERSION, SHADOW, shadow=True))) == 1


def sweeper(runtime, shadow_version):
    clock = Clock()
    return SweepCollaborators(
        runtime.database, FakeQueue(), lambda: VERSION, SweepRule(quiet_seconds=0), clock, shadow_version
    )


def test_the_sweep_makes_shadows_and_sends_chunks_for_them_once_the_study_is_answered(runtime):
    parts = sweeper(runtime, lambda: SHADOW)
    with runtime.database.write() as session:
        an_instance(session, a_study(session, state="receiving", completed_at=None))

    sweep(parts)
    assert (parts.queue.jobs, parts.queue.chunks) == ([(1, "live")], 0)

    runtime.answer(1)
    sweep(parts)
    assert parts.queue.chunks == 1


def test_a_shadow_that_cannot_be_read_keeps_no_study_open_and_ends_no_job(runtime):
    def unreadable():
        raise BundleError("bundle.json is not JSON")

    runtime.push(1)
    with runtime.database.write() as session:
        an_instance(session, a_study(session, 2, state="receiving", completed_at=None), 2)

    counts = sweep(sweeper(runtime, unreadable))

    assert (counts["studies_closed"], counts["shadows_ended"]) == (1, -1)
    assert queued(runtime, "shadow") == [2]
