"""A run over the own store: what it takes up, in which order, within which limits, and that it may stop anywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time, timedelta

import pytest
from sqlalchemy import func, select, update

from tests.databases import MORNING, a_job, a_study, an_instance
from tests.fakes_worker import FakeStore
from worker.db.tables import Job, ReanalysisItem, ReanalysisRun, Study
from worker.errors import LeaseLost
from worker.reanalysis import reanalysis, runs
from worker.reanalysis.estimate import GIVEN_UP, ItemFailure, estimate_store, item_failures, progress, yet_to_take_up
from worker.reanalysis.limits import (
    LANE_FULL,
    LIVE_FIRST,
    NIGHT_FULL,
    NIGHT_OVER,
    OTHER_MODEL,
    ReanalysisCollaborators,
    ReanalysisRule,
)
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import Request, RunLease
from worker.settings.night import NightRule
from worker.study.studies import current_digest

OLD, NEW = "2026-03-01-first+01234567", "2026-09-01-second+89abcdef"


@pytest.fixture
def parts(database, clock, tmp_path):
    return ReanalysisCollaborators(database, lambda: NEW, ReanalysisRule(), clock, FakeStore(tmp_path))


def answered(database, number, model=OLD, **values):
    """Add a study with one image and the answer of a model."""
    with database.write() as session:
        study = a_study(session, number, **values)
        an_instance(session, study)
        a_job(session, study, digest=current_digest(session, study.id), model_version=model)


def ask(parts, **values):
    return runs.start(parts.database, Request(**values), model_version=NEW, asked_by="a test", now=parts.clock())


def planned(database):
    """Return the studies that have a job of the new model, in the order in which it was made."""
    with database.read() as session:
        jobs = select(Study.study_instance_uid).join(Job).where(Job.model_version == NEW).order_by(Job.id)
        return [uid.removeprefix("2.25.") for uid in session.scalars(jobs)]


def end_jobs(database, state="done"):
    with database.write() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state=state, finished_at=MORNING))


def counted(database):
    """Return the studies of the only run, by what became of them."""
    (run,) = progress(database)
    return {name: getattr(run, name) for name in ("to_retrieve", "retrieved", "queued", "done", "failed")}


def the_run(database):
    with database.read() as session:
        return session.scalars(select(ReanalysisRun).order_by(ReanalysisRun.id.desc()).limit(1)).one()


def test_studies_without_an_answer_of_the_current_model_get_a_job_in_the_archive_lane(database, parts):
    answered(database, 1)
    answered(database, 2, model=NEW)
    answered(database, 3, state="receiving", completed_at=None)
    ask(parts)

    step(parts)

    with database.read() as session:
        made = session.scalars(select(Job).where(Job.model_version == NEW, Job.state == "queued")).one()
        assert (made.study_id, made.lane, made.revision) == (1, "archive", 1)
        assert session.scalars(select(ReanalysisItem)).one().job_id == made.id


@pytest.mark.parametrize(("direction", "order"), [("newest", ["3", "1", "2", "4"]), ("oldest", ["2", "1", "3", "4"])])
def test_the_order_is_that_of_study_dates_and_what_has_none_comes_last(database, parts, direction, order):
    for number, day in ((1, "20260102"), (2, "20250101"), (3, "20260301"), (4, None)):
        answered(database, number, study_date=day)
    ask(parts, direction=direction)

    step(replace(parts, rule=ReanalysisRule(page=1)))

    assert planned(database) == order


def test_dates_modalities_and_body_parts_narrow_a_run(database, parts):
    for number, day in ((1, "20260101"), (2, "20260201"), (3, "20260301")):
        answered(database, number, study_date=day)
    ask(parts, since=date(2026, 1, 15), until=date(2026, 2, 15), modalities=("CR",), body_parts=("hand",))
    ask(parts, modalities=("DX",))

    step(parts)

    assert planned(database) == ["2"]


def test_a_run_ends_when_all_its_studies_have(database, parts):
    answered(database, 1)
    ask(parts)

    step(parts)
    assert the_run(database).state == "running"
    end_jobs(database)
    assert counted(database) == {"to_retrieve": 0, "retrieved": 0, "queued": 0, "done": 1, "failed": 0}
    step(parts)

    assert the_run(database).state == "finished"


def test_an_analysis_that_was_given_up_is_a_failed_study_of_the_run(database, parts):
    answered(database, 1)
    run_id = ask(parts)
    step(parts)

    end_jobs(database, "failed")
    step(parts)

    assert the_run(database).state == "finished"
    assert counted(database) == {"to_retrieve": 0, "retrieved": 0, "queued": 0, "done": 0, "failed": 1}
    assert item_failures(database, [run_id]) == (ItemFailure(run_id, "analysis", GIVEN_UP, 1),)


def test_a_second_run_does_nothing(database, parts):
    answered(database, 1)
    ask(parts)
    step(parts)
    end_jobs(database)
    step(parts)

    ask(parts)
    step(parts)

    assert the_run(database).state == "finished"
    assert planned(database) == ["1"]


def test_late_images_that_an_older_model_answered_are_taken_up_though_the_current_one_knows_the_first(database, parts):
    answered(database, 1, model=NEW)
    with database.write() as session:
        study = session.get_one(Study, 1)
        an_instance(session, study, 2)
        a_job(session, study, digest=current_digest(session, 1), model_version=OLD)
    ask(parts)

    step(parts)

    assert planned(database) == ["1", "1"]


@pytest.mark.parametrize("stops_after", range(6))
def test_a_run_that_is_killed_between_two_pieces_goes_on_without_doing_anything_twice(
    database, parts, clock, stops_after, monkeypatch
):
    for number in range(1, 6):
        answered(database, number)
    ask(parts)
    parts = replace(parts, rule=ReanalysisRule(page=1))
    whole, left = reanalysis._piece, [stops_after]

    def killed(*arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return whole(*arguments)

    monkeypatch.setattr(reanalysis, "_piece", killed)
    with pytest.raises(KeyboardInterrupt):
        step(parts)
    monkeypatch.setattr(reanalysis, "_piece", whole)
    clock.advance(3600)
    step(parts)

    assert sorted(planned(database)) == ["1", "2", "3", "4", "5"]
    assert the_run(database).planned == 5


def test_a_page_of_which_the_transaction_fails_leaves_nothing(database, parts, clock):
    answered(database, 1)
    run_id = ask(parts)
    lease = RunLease.of(run_id, 60)
    assert lease.take(database, clock())
    view = runs.load(database, run_id)
    assert runs.change_state(database, run_id, "paused", who="a test", now=clock())

    with pytest.raises(LeaseLost):
        reanalysis.plan_page(database, lease, view, size=10, now=clock())

    assert planned(database) == []


def test_two_steps_at_once_find_one_lease_and_a_dead_one_runs_out(database, parts, clock):
    answered(database, 1)
    run_id = ask(parts)
    assert RunLease.of(run_id, 60).take(database, clock())

    assert step(parts)["pieces"] == 0
    clock.advance(61)
    step(parts)

    assert planned(database) == ["1"]


def test_no_more_studies_wait_in_the_lane_than_allowed(database, parts):
    for number in range(1, 6):
        answered(database, number)
    ask(parts)
    parts = replace(parts, rule=ReanalysisRule(waiting=2))

    step(parts)
    assert len(planned(database)) == 2
    assert the_run(database).reason == LANE_FULL
    end_jobs(database)
    step(parts)

    assert len(planned(database)) == 4


def test_a_run_waits_while_more_of_todays_studies_are_queued_than_allowed(database, parts):
    answered(database, 1)
    with database.write() as session:
        for number in (11, 12):
            a_job(session, a_study(session, number), state="queued", outcome=None, finished_at=None, model_version=NEW)
    ask(parts)

    step(replace(parts, rule=ReanalysisRule(live_limit=1)))
    assert the_run(database).reason == LIVE_FIRST
    step(replace(parts, rule=ReanalysisRule(live_limit=2)))

    assert "1" in planned(database)
    assert the_run(database).reason is None


def test_a_run_takes_up_no_more_than_its_maximum(database, parts):
    for number in range(1, 6):
        answered(database, number)
    ask(parts, maximum_studies=3)

    step(parts)
    end_jobs(database)
    step(parts)

    assert len(planned(database)) == 3
    assert the_run(database).state == "finished"


@pytest.mark.parametrize(("maximum", "before", "after"), [(None, 6, 4), (5, 5, 3), (2, 2, 0), (9, 6, 4)])
def test_an_estimate_counts_the_whole_request_before_a_run_and_during_it_what_is_yet_to_be_taken_up(
    database, parts, maximum, before, after
):
    for number in range(1, 7):
        answered(database, number)
    request = Request(maximum_studies=maximum)
    assert estimate_store(database, request, model_version=NEW, processes=1).studies == before
    run_id = ask(parts, maximum_studies=maximum)

    step(replace(parts, rule=ReanalysisRule(waiting=2)))

    rest = yet_to_take_up(runs.load(database, run_id))
    assert estimate_store(database, rest, model_version=NEW, processes=1).studies == after


def test_a_run_that_is_planned_to_its_end_takes_up_nothing_more(database, parts):
    run_id = ask(parts)
    step(parts)
    answered(database, 1)

    assert yet_to_take_up(runs.load(database, run_id)).maximum_studies == 0


def test_a_run_of_another_model_ends_with_the_reason(database, parts):
    answered(database, 1)
    ask(parts)

    step(replace(parts, model_version=lambda: "2027-01-01-third+00000000"))

    assert (the_run(database).state, the_run(database).reason) == ("stopped", OTHER_MODEL)


def test_a_person_pauses_resumes_and_stops_a_run(database, parts, clock):
    answered(database, 1)
    run_id = ask(parts)

    assert runs.change_state(database, run_id, "paused", who="someone", now=clock())
    assert step(parts)["pieces"] == 0
    assert runs.change_state(database, run_id, "running", who="someone", now=clock())
    step(parts)
    assert runs.change_state(database, run_id, "stopped", who="someone", now=clock())

    assert planned(database) == ["1"]
    assert the_run(database).reason == "stopped by someone"
    assert not runs.change_state(database, run_id, "running", who="someone", now=clock())


NIGHT = ReanalysisRule(night=NightRule("0 22 * * *", end=time(6)), studies_a_night=2)


def test_a_night_begins_by_itself_once_and_goes_on_in_the_next(database, parts, clock):
    for number in range(1, 4):
        answered(database, number)
    parts = replace(parts, rule=NIGHT)

    step(parts)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(ReanalysisRun)) == 0, "it is day"
    clock.now = MORNING.replace(hour=22, minute=30)
    step(parts)
    step(parts)
    assert (len(planned(database)), the_run(database).reason) == (2, NIGHT_FULL)
    clock.now += timedelta(hours=8)
    step(parts)
    assert (len(planned(database)), the_run(database).reason) == (2, NIGHT_OVER)
    clock.now += timedelta(hours=16)
    step(parts)

    assert len(planned(database)) == 3
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(ReanalysisRun)) == 1


def test_a_night_whose_run_is_finished_does_not_begin_again(database, parts, clock):
    clock.now = MORNING.replace(hour=22, minute=30)
    step(replace(parts, rule=NIGHT))
    assert the_run(database).state == "finished"
    answered(database, 1)

    step(replace(parts, rule=NIGHT))

    assert planned(database) == []


def test_why_studies_of_a_run_failed_is_counted_by_reason(database, parts):
    run = ask(parts)
    with database.write() as session:
        for number, code in enumerate(("not_found", "not_found", "incomplete")):
            values = {"reason_code": code, "reason": f"{code} ...", "found_at": MORNING, "state": "failed"}
            session.add(ReanalysisItem(run_id=run, study_instance_uid=f"2.25.{number}", **values))

    assert item_failures(database, [run]) == (
        ItemFailure(run, "not_found", "not_found ...", 2),
        ItemFailure(run, "incomplete", "incomplete ...", 1),
    )
