from __future__ import annotations

import threading
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import func, select, update

from dicom_io.types import Frame
from models.types import ImageError
from tests.databases import MORNING, a_study, an_instance, sqlite_database
from tests.fakes_worker import ABSENT, PRESENT, VERSION, FakeAnalyzer, FakeFrames, FakeQueue, FakeStore, fake_report
from worker.db.tables import Event, Job, utc_now
from worker.errors import DatabaseUnavailable, EnvironmentUnfit
from worker.queue import chunk as chunk_module
from worker.queue.chunk import run_chunk
from worker.queue.chunk_rule import ChunkRule
from worker.queue.shared_analyzer import SharedAnalyzer, _Question
from worker.queue.tasks import run_archive_chunk
from worker.study import jobs
from worker.study.pipeline import Collaborators, ReportRule
from worker.study.studies import add_job, current_digest


class FakeRuntime:
    """Studies 1..n of one image each, jobs of them in a lane, and a model that answers by the study's number."""

    def __init__(self, folder, database=None):
        self.database, self.queue, self.store = database or sqlite_database(folder), FakeQueue(), FakeStore(folder)
        self.settings = SimpleNamespace(lease_seconds=60.0)
        self.rule, self.unfit = ChunkRule(studies=8, seconds=60, at_once=2), None
        self.analyzer, self.frames = FakeAnalyzer(), FakeFrames()

    def add(self, number: int, lane: str = "archive") -> int:
        self.store.add(f"instances/{number}.dcm")
        with self.database.write() as session:
            study = a_study(session, number)
            an_instance(session, study, number)
            digest = current_digest(session, study.id)
            return add_job(session, study.id, digest=digest, model_version=VERSION, lane=lane, now=MORNING)

    def pipeline(self):
        if self.unfit is not None:
            raise self.unfit
        return Collaborators(
            self.database, self.store, self.frames, self.analyzer, fake_report, "bonewatch", ("pacs",), ReportRule(),
            utc_now,
        )  # fmt: skip

    def chunk_rule(self, analyzer):
        return self.rule

    def shadow_analyzer(self):
        return None

    def states(self) -> list[str]:
        return [job.state for job in self.jobs()]

    def jobs(self):
        with self.database.read() as session:
            rows = list(session.scalars(select(Job).order_by(Job.id)))
            session.expunge_all()
            return rows


@pytest.fixture
def runtime(tmp_path):
    runtime = FakeRuntime(tmp_path)
    yield runtime
    runtime.database.close()


def test_a_chunk_does_so_many_studies_oldest_first_and_leaves_the_rest(runtime):
    for number in range(1, 6):
        runtime.add(number)
    runtime.rule = ChunkRule(studies=3, seconds=60, at_once=2)

    assert run_chunk(runtime) == 3

    assert runtime.states() == ["done"] * 3 + ["queued"] * 2
    assert sorted(runtime.queue.deliveries) == [1, 2, 3]
    assert run_chunk(runtime) == 2
    assert run_chunk(runtime) == 0
    assert runtime.analyzer.calls == 5


def test_a_chunk_claims_nothing_more_once_its_time_is_over(runtime):
    for number in range(1, 4):
        runtime.add(number)
    runtime.rule = ChunkRule(studies=3, seconds=5, at_once=1)
    elapsed = iter([0.0, 1.0, 4.9, 5.0])

    assert run_chunk(runtime, lambda: next(elapsed, 9.0)) == 1

    assert runtime.states() == ["done", "queued", "queued"]


def test_a_study_that_breaks_does_not_touch_the_others(runtime):
    def answer(pixels):
        if pixels[0, 0] == 2:
            raise MemoryError
        if pixels[0, 0] == 3:
            raise ImageError("the image has one grey value only")
        return PRESENT

    frames = {str(number): [Frame(1, np.full((4, 4), number, np.float32))] for number in range(1, 5)}
    runtime.frames, runtime.analyzer = FakeFrames(**frames), FakeAnalyzer(answer)
    runtime.analyzer.batch_size = 4
    runtime.rule = ChunkRule(studies=4, seconds=60, at_once=4)
    for number in range(1, 5):
        runtime.add(number)

    run_chunk(runtime)

    first, broken, unfit, last = runtime.jobs()
    assert (first.outcome, last.outcome, unfit.outcome) == ("present", "present", "failed")
    assert (broken.state, broken.attempts, broken.reason) == ("queued", 1, "unexpected error (MemoryError)")


def test_a_lease_that_is_lost_drops_that_study_alone(runtime):
    lost, kept = runtime.add(1), runtime.add(2)

    def answer(pixels):
        if pixels[0, 0] == 1:
            with runtime.database.write() as session:
                session.execute(update(Job).where(Job.id == lost).values(lease_token="somebody else"))
        return ABSENT

    frames = {str(number): [Frame(1, np.full((4, 4), number, np.float32))] for number in (1, 2)}
    runtime.frames, runtime.analyzer = FakeFrames(**frames), FakeAnalyzer(answer)

    run_chunk(runtime)

    assert [(job.id, job.state) for job in runtime.jobs()] == [(lost, "running"), (kept, "done")]


def test_studies_are_read_while_the_model_looks_at_another(runtime):
    runtime.add(1)
    runtime.add(2)
    both_read = threading.Barrier(2, timeout=100)

    def frames(path):
        both_read.wait()  # neither goes on before the other is read as well
        yield from FakeFrames()(path)

    runtime.frames = frames

    run_chunk(runtime)

    assert runtime.states() == ["done", "done"]


def test_images_of_several_studies_reach_the_model_as_one_batch():
    batches = []

    class Model(FakeAnalyzer):
        batch_size = 4

        def analyze_many(self, images):
            batches.append(len(images))
            return super().analyze_many(images)

    shared = SharedAnalyzer(Model(), threads=3)
    threads = [threading.Thread(target=lambda: (shared.analyze(np.zeros((4, 4))), shared.leave())) for _ in range(3)]
    for thread in threads:
        thread.start()
    while shared._questions.qsize() < 3:
        threading.Event().wait(0.001)
    shared.serve()
    for thread in threads:
        thread.join()

    assert batches == [3]


def test_a_heat_map_is_made_by_the_thread_that_owns_the_model_and_its_error_is_the_askers():
    class Explaining(FakeAnalyzer):
        def explain(self, pixels):
            if pixels.shape == (1, 1):
                raise ImageError("too small")
            return np.full(pixels.shape, threading.get_ident() == owner, np.float32)

    owner, heard = threading.get_ident(), []
    shared = SharedAnalyzer(Explaining(), threads=1)

    def ask():
        try:
            heard.append(float(shared.explain(np.zeros((2, 2), np.float32)).min()))
            shared.explain(np.zeros((1, 1), np.float32))
        except ImageError as error:
            heard.append(str(error))
        finally:
            shared.leave()

    asker = threading.Thread(target=ask)
    asker.start()
    shared.serve()
    asker.join()
    assert heard == [1.0, "too small"]


def test_a_thread_that_asks_a_model_which_has_stopped_is_told_so(runtime):
    class Stopping(FakeAnalyzer):
        def analyze_many(self, images):
            raise KeyboardInterrupt

    shared = SharedAnalyzer(Stopping(), threads=1)
    shared._questions.put(_Question(np.zeros((4, 4), np.float32)))
    with pytest.raises(KeyboardInterrupt):
        shared.serve()

    with pytest.raises(EnvironmentUnfit, match="was stopped"):
        shared.analyze(np.zeros((4, 4)))


def test_a_live_job_goes_before_every_archive_job_of_the_chunk(runtime):
    runtime.rule = ChunkRule(studies=8, seconds=60, at_once=1)
    first = runtime.add(1)
    second = runtime.add(2)
    live = []

    def answer(pixels):
        if not live:
            live.append(runtime.add(3, lane="live"))
        return ABSENT

    runtime.analyzer = FakeAnalyzer(answer)

    run_chunk(runtime, lambda: 0.0)  # no study is a long one, however busy the machine

    with runtime.database.read() as session:
        order = session.scalars(select(Event.job_id).where(Event.kind == "analysed").order_by(Event.id)).all()
    assert order == [first, live[0], second]


def test_a_long_study_gives_way_between_two_images(runtime, monkeypatch):
    monkeypatch.setattr(chunk_module, "LOOK_SECONDS", 0.0)
    runtime.rule = ChunkRule(studies=1, seconds=60, at_once=1)
    long = runtime.add(1)
    live = []

    def answer(pixels):
        if not live:
            live.append(runtime.add(2, lane="live"))
        return ABSENT

    runtime.frames = FakeFrames(**{"1": [Frame(number, np.zeros((4, 4), np.float32)) for number in (1, 2)]})
    runtime.analyzer = FakeAnalyzer(answer)

    run_chunk(runtime)

    with runtime.database.read() as session:
        order = session.scalars(select(Event.job_id).where(Event.kind == "analysed").order_by(Event.id)).all()
    assert order == [live[0], long]


def test_a_worker_without_a_model_claims_nothing_and_says_so(runtime):
    runtime.add(1)
    runtime.unfit = EnvironmentUnfit("this worker has no usable model: no readable bundle.json")

    run_archive_chunk(runtime)

    (job,) = runtime.jobs()
    assert (job.state, job.attempts, job.reason) == ("queued", 0, str(runtime.unfit))
    assert job.next_attempt_at > utc_now()


def test_a_database_that_is_away_ends_the_message_quietly(runtime):
    runtime.unfit = DatabaseUnavailable("locked")

    run_archive_chunk(runtime)


def test_two_workers_claim_every_job_once(runtime):
    for number in range(1, 21):
        runtime.add(number)
    runtime.rule = ChunkRule(studies=20, seconds=60, at_once=4)
    workers = [threading.Thread(target=run_chunk, args=(runtime,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert runtime.states() == ["done"] * 20
    with runtime.database.read() as session:
        assert session.scalar(select(func.count()).where(Event.kind == "claimed")) == 20


def test_the_next_job_is_one_that_is_due_and_whose_study_nobody_works_on(runtime):
    held_back, busy, free = runtime.add(1), runtime.add(2), runtime.add(3)
    jobs.postpone(runtime.database, held_back, reason="x", now=MORNING, wait_seconds=60)
    jobs.claim(runtime.database, busy, worker="w", lease_seconds=60, now=MORNING)

    held = jobs.claim_next(runtime.database, "archive", worker="w", lease_seconds=60, now=MORNING)
    assert held is not None
    assert held.job_id == free
    assert jobs.claim_next(runtime.database, "archive", worker="w", lease_seconds=60, now=MORNING) is None
    later = MORNING + timedelta(seconds=61)
    again = jobs.claim_next(runtime.database, "archive", worker="w", lease_seconds=60, now=later)
    assert again is not None
    assert again.job_id == held_back
