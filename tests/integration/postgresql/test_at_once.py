"""Two schedulers that are held up at the same statement, and go on at once: each thing is done by one of them."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.databases import MORNING, count, kinds, only
from tests.integration.postgresql.waiting import PATIENCE_SECONDS, until_so_many_wait
from worker.db.tables import ArchivePace, ReanalysisRun
from worker.reanalysis import items, runs
from worker.reanalysis.pace import QUERY, take_turn
from worker.reanalysis.runs import Request
from worker.settings.night import Night


class Together:
    """The same call in two threads."""

    def __init__(self, call):
        self.answers, self.errors = [], []
        self._threads = [threading.Thread(target=self._run, args=(call,)) for _ in range(2)]

    def _run(self, call):
        try:
            self.answers.append(call())
        except Exception as error:  # noqa: BLE001 - the test's own thread shows it
            self.errors.append(error)

    def start(self):
        for thread in self._threads:
            thread.start()

    def end(self):
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        assert self.errors == []
        return self.answers


@pytest.fixture
def run_id(database):
    made = runs.start(
        database,
        Request(),
        model_version="v1",
        asked_by="the night",
        now=MORNING,
        night=Night(MORNING, MORNING + timedelta(hours=8)),
    )
    assert made is not None
    return made


def locked_run(session):
    return session.scalars(select(ReanalysisRun).with_for_update()).one()


def test_the_end_of_a_run_is_recorded_once_by_two_that_find_it(database, run_id):
    both = Together(lambda: items.finish_runs(database, now=MORNING))
    with database.write() as session:
        locked_run(session).planned_at = MORNING
    with database.write() as session:
        locked_run(session)
        both.start()
        until_so_many_wait(database, 2)

    assert sorted(both.end()) == [0, 1]
    assert kinds(database) == ["reanalysis_asked", "reanalysis_finished"]


def test_a_night_that_two_begin_gives_the_open_run_its_new_limit_once(database, run_id):
    night = Night(MORNING + timedelta(days=1), MORNING + timedelta(days=1, hours=8))
    both = Together(
        lambda: runs.start(database, Request(), model_version="v1", asked_by="the night", now=night.start, night=night)
    )
    with database.write() as session:
        locked_run(session).night_studies = 7
        both.start()
        until_so_many_wait(database, 2)

    assert sorted(both.end(), key=bool) == [None, run_id]
    run = only(database, ReanalysisRun)
    assert (run.night_started_at, run.night_studies) == (night.start, 0)


def test_the_first_turn_at_an_archive_is_taken_by_one_of_two(database):
    both = Together(lambda: take_turn(database, QUERY, a_minute=6, now=MORNING))
    with database.write() as session:
        session.add(ArchivePace(kind=QUERY, next_at=MORNING + timedelta(seconds=10)))
        session.flush()
        both.start()
        until_so_many_wait(database, 2)

    assert both.end() == [10.0, 10.0]
    assert count(database, ArchivePace) == 1
