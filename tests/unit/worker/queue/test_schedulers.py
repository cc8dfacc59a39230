"""Several schedulers do all that there is to do at the same moments: each thing is done once."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, time, timedelta

import pytest
from sqlalchemy import func, select, update

from tests.archive_nights import DAY, NEW, OLD, end_jobs
from tests.databases import MORNING, a_delivery, a_job, a_study, an_instance, kinds
from tests.fakes_archive import FakeArchive
from tests.fakes_worker import FakeQueue, FakeStore
from worker.db.tables import Delivery, Event, Job, ReanalysisItem, ReanalysisRun, Scheduler, Study, utc_now
from worker.errors import DatabaseUnavailable
from worker.queue.presence import Presence, present
from worker.queue.sweep import SweepCollaborators, SweepRule, sweep
from worker.reanalysis.limits import ReanalysisCollaborators, ReanalysisRule
from worker.reanalysis.parts import ArchiveParts, ArchiveRule
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import Request
from worker.settings.night import NightRule
from worker.study.studies import current_digest

SCHEDULERS = 3
SHADOW = "2026-10-01-third+00000000"
EVENING = MORNING.replace(hour=22, minute=30)


class Schedulers:
    """Several that each sweep and take a step of re-analysis, all at once, in rounds."""

    def __init__(self, database, folder, clock):
        self.database, self.clock, self.queue = database, clock, FakeQueue()
        self.archive = FakeArchive(database, {50: DAY, 51: DAY, 52: DAY})
        ways = ArchiveParts(self.archive, lambda _: 0, ArchiveRule(6000, 6000, at_once=1, page=10), clock.advance)
        rule = ReanalysisRule(
            night=NightRule("0 22 * * *", end=time(6)),
            night_requests=(Request(), Request("archive", date(2026, 2, 25), date(2026, 2, 28))),
            studies_a_night=2,
        )
        self.past = ReanalysisCollaborators(database, lambda: NEW, rule, clock, FakeStore(folder), ways)
        self.present = SweepCollaborators(
            database, self.queue, lambda: NEW, SweepRule(30, 10, 3), clock, lambda: SHADOW
        )

    def round(self):
        """Let each of them do everything once; an error of one of them is the test's."""
        begin = threading.Barrier(SCHEDULERS)

        def work():
            begin.wait()
            counts = sweep(self.present)
            return counts, step(self.past)

        with ThreadPoolExecutor(SCHEDULERS) as pool:
            done = [each.result() for each in [pool.submit(work) for _ in range(SCHEDULERS)]]
        assert all(-1 not in counts.values() for counts, _ in done)
        self.clock.advance(31)


def queued(session, study, **values):
    a_job(session, study, state="queued", outcome=None, probability=None, finished_at=None, **values)


@pytest.fixture
def schedulers(database, tmp_path, clock):
    clock.now = EVENING
    with database.write() as session:
        an_instance(session, a_study(session, 1, state="receiving", completed_at=None))
        lost = a_job(session, a_study(session, 2), model_version=NEW, lane="live")
        lost.state, lost.outcome, lost.finished_at, lost.attempts = "running", None, None, 1
        lost.lease_token, lost.lease_until, lost.started_at = "gone", EVENING - timedelta(seconds=1), MORNING
        queued(session, a_study(session, 3), model_version=OLD)
        queued(session, a_study(session, 4), model_version=OLD, purpose="shadow", revision=0, lane="archive")
        sent = a_delivery(session, a_job(session, a_study(session, 5), model_version=NEW), state="sending")
        sent.lease_token, sent.lease_until = "gone", EVENING - timedelta(seconds=1)
        for number in range(10, 14):
            study = a_study(session, number)
            an_instance(session, study)
            a_job(session, study, digest=current_digest(session, study.id), model_version=OLD)
    return Schedulers(database, tmp_path, clock)


def test_what_is_to_be_done_is_done_once_by_schedulers_that_do_it_all_at_once(schedulers, database):
    schedulers.round()

    with database.read() as session:
        assert session.scalars(select(Delivery.state)).all() == ["pending"]
        assert session.scalars(select(Study.state).where(Study.study_instance_uid == "2.25.1")).one() == "complete"
    happened = Counter(kinds(database))
    assert happened["completed"] >= 1, "a study that one of them retrieved may be closed by another's sweep already"
    assert (happened["shadow"], happened["requeued"], happened["replanned"], happened["failed"]) == (1, 1, 1, 1)
    assert happened["reanalysis_asked"] == 2

    for _ in range(8):
        end_jobs(database)
        schedulers.round()

    with database.read() as session:
        runs = session.scalars(select(ReanalysisRun).order_by(ReanalysisRun.source)).all()
        assert [(run.source, run.state, run.night_studies) for run in runs] == [
            ("archive", "running", 2),
            ("store", "running", 2),
        ]
        assert session.scalar(select(func.count()).select_from(ReanalysisItem).where(~copy_waits())) == 4
    assert_nothing_is_doubled(schedulers, database)


def test_nights_that_follow_take_up_the_rest_once_and_each_run_ends_once(schedulers, database):
    for night in range(3):
        schedulers.clock.now = EVENING + timedelta(days=night)
        for _ in range(6):
            schedulers.round()
            end_jobs(database)

    happened = Counter(kinds(database))
    with database.read() as session:
        states = Counter(session.scalars(select(ReanalysisRun.state)))
    assert states == {"finished": happened["reanalysis_finished"]} == {"finished": happened["reanalysis_asked"]}
    assert sorted(schedulers.archive.retrieved) == ["50", "51", "52"]
    assert_nothing_is_doubled(schedulers, database)


def copy_waits():
    return ReanalysisItem.state == "found"


def assert_nothing_is_doubled(schedulers, database):
    event = (Event.kind, Event.study_id, Event.job_id)
    of_study = select(*event).where(Event.study_id.is_not(None)).group_by(*event).having(func.count() > 1)
    same = (Job.study_id, Job.digest, Job.model_version, Job.purpose)
    with database.read() as session:
        assert session.execute(of_study).all() == []
        assert session.execute(select(*same).group_by(*same).having(func.count() > 1)).all() == []
        once = (ReanalysisItem.study_instance_uid,)
        assert session.execute(select(*once).group_by(*once).having(func.count() > 1)).all() == []
    assert len(set(schedulers.archive.retrieved)) == len(schedulers.archive.retrieved)


def test_every_scheduler_that_lives_is_named_and_one_that_ended_is_not(database):
    first, second = Presence(database), Presence(database)
    first.note()
    second.note()
    assert len(present(database)) == 2
    first.stop()
    assert len(present(database)) == 1


def test_schedulers_that_fell_silent_are_not_named_and_later_forgotten(database):
    Presence(database).note()
    with database.write() as session:
        session.execute(update(Scheduler).values(seen_at=utc_now() - timedelta(minutes=1)))
    assert present(database) == ()
    with database.write() as session:
        session.execute(update(Scheduler).values(seen_at=utc_now() - timedelta(days=1)))
    Presence(database).note()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Scheduler)) == 1


def test_a_database_that_is_away_for_a_while_does_not_end_the_signs_of_life(database, monkeypatch):
    presence = Presence(database)
    monkeypatch.setattr(database, "write", lambda: (_ for _ in ()).throw(DatabaseUnavailable("away")))
    presence.note()
    monkeypatch.undo()
    presence.note()
    assert len(present(database)) == 1
