"""A run over an archive may stop anywhere, and never takes more than it was given."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import select

from tests.archive_nights import DAY, NEW, ask, count, files, items, limited, night, the_run
from tests.databases import MORNING, a_delivery
from tests.fakes_worker import Script
from worker.db.tables import Job, ReanalysisItem
from worker.reanalysis import runs
from worker.reanalysis.limits import DISK_FULL, LANE_FULL, ReanalysisRule
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import ARCHIVE, Request
from worker.settings.night import Night
from worker.study.studies import Models, close_quiet_studies


@pytest.mark.parametrize("killed_at", [0, 1, 3, 5])
def test_a_run_that_is_killed_at_any_request_goes_on_without_doing_anything_twice(
    database, parts, archive, clock, killed_at
):
    archive.studies = {1: "20260225", 2: DAY, 3: DAY}
    left = [killed_at]

    def killed(*_):
        left[0] -= 1
        if left[0] < 0:
            left[0] = 1000
            raise KeyboardInterrupt

    archive.finds = archive.retrieves = Script([killed])
    ask(parts)

    with pytest.raises(KeyboardInterrupt):
        night(parts)
    clock.advance(3600)
    night(parts, steps=4)

    assert sorted(items(database)) == [(number, "done", None) for number in ("1", "2", "3")]
    assert count(database) == 3


def test_requests_keep_the_pace_that_was_set(database, parts, archive, clock):
    archive.studies = {1: DAY, 2: DAY, 3: DAY}
    ask(parts)
    slow = limited(parts, retrievals_a_minute=2)
    begun = clock.now

    night(slow, steps=10)

    assert len(archive.retrieved) == 3
    with database.read() as session:
        moments = sorted(session.scalars(select(ReanalysisItem.retrieval_at)))
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) >= timedelta(seconds=30)
    assert moments[0] >= begun


def test_nothing_is_retrieved_while_copies_fill_their_budget_and_it_goes_on_when_they_are_gone(
    database, parts, archive
):
    archive.studies = dict.fromkeys(range(1, 5), DAY)
    ask(parts)
    small = limited(parts, copy_bytes=2000)

    step(small)
    assert (len(archive.retrieved), the_run(database).reason) == (2, DISK_FULL)
    night(small, steps=6)

    assert len(archive.retrieved) == 4
    assert the_run(database).state == "finished"


def test_no_more_studies_are_retrieved_than_may_wait_in_the_lane(database, parts, archive):
    archive.studies = dict.fromkeys(range(1, 6), DAY)
    ask(parts)

    step(replace(parts, rule=ReanalysisRule(waiting=2)))

    assert (len(archive.retrieved), the_run(database).reason) == (2, LANE_FULL)


def test_several_retrievals_at_once_keep_to_the_studies_of_a_night(database, parts, archive, clock):
    archive.studies = dict.fromkeys(range(1, 6), DAY)
    night = Night(clock(), clock() + timedelta(hours=8))
    request = Request(ARCHIVE, since=date(2026, 2, 25), until=date(2026, 2, 28))
    runs.start(database, request, model_version=NEW, asked_by="a test", now=clock(), night=night)
    looked, several_asked_for = itertools.count(1), threading.Event()

    def slow_in_threads():
        if threading.current_thread().name.startswith("retrieval"):
            several_asked_for.wait(60)
        elif next(looked) > 20:
            several_asked_for.set()
        return clock()

    rule = ReanalysisRule(studies_a_night=2)
    step(replace(limited(parts, at_once=3), clock=slow_in_threads, rule=rule))

    assert len(archive.retrieved) == 2


def test_a_run_takes_up_no_more_than_its_maximum(database, parts, archive):
    archive.studies = dict.fromkeys(range(1, 6), DAY)
    ask(parts, of=Request(ARCHIVE, maximum_studies=2))

    night(parts)

    assert len(archive.retrieved) == 2
    assert the_run(database).state == "finished"


def test_a_run_that_is_stopped_leaves_nothing_half_done(database, parts, archive, clock):
    archive.studies, archive.images = {1: DAY, 2: DAY}, 3
    archive.retrieves = Script([2])
    run_id, stopped = ask(parts), []

    def stop(seconds):
        stopped.append(runs.change_state(database, run_id, "stopped", who="someone", now=clock()))
        clock.advance(seconds)

    slow = limited(parts, retrievals_a_minute=1)
    step(replace(slow, archive=replace(slow.archive, wait=stop)))

    assert stopped[0] is True
    clock.advance(3600)
    night(parts)

    assert {(state, code) for _, state, code in items(database)} == {("failed", "stopped")}
    assert (count(database), files(database)) == (0, 0)


def test_a_report_that_is_not_committed_yet_keeps_the_files(database, parts, archive):
    archive.studies = {1: DAY}
    ask(parts)
    step(parts)
    close_quiet_studies(database, Models(NEW), quiet_seconds=1, now=MORNING + timedelta(hours=1), limit=100)
    with database.write() as session:
        job = session.scalars(select(Job)).one()
        job.state, job.finished_at = "done", MORNING
        delivery = a_delivery(session, job, state="sent")
        key = delivery.id

    step(parts)
    step(parts)
    assert files(database) == 1
    with database.write() as session:
        session.get_one(type(delivery), key).state = "committed"
    step(parts)

    assert files(database) == 0
