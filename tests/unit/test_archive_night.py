"""A run over an archive: what it asks for, what it brings, what becomes of it, and that it may stop anywhere."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select, update

from dicom_io.errors import PeerBusy, PeerRefused, PeerUnreachable
from tests.databases import MORNING, Clock, a_delivery, a_job, a_study, an_instance, sqlite_database
from tests.fakes_archive import FakeArchive
from tests.fakes_worker import FakeStore, Script
from worker import reanalysis_runs as runs
from worker.archive_parts import MOST_ATTEMPTS, ArchiveParts, ArchiveRule
from worker.reanalysis import step
from worker.reanalysis_limits import DISK_FULL, LANE_FULL, ReanalysisCollaborators, ReanalysisRule
from worker.reanalysis_runs import ARCHIVE, Request
from worker.studies import Models, close_quiet_studies, current_digest
from worker.tables import Instance, Job, ReanalysisItem, ReanalysisRun, Study

OLD, NEW, NEWER = "2026-03-01-first+01234567", "2026-09-01-second+89abcdef", "2026-10-01-third+00000000"
DAY = "20260228"


@pytest.fixture
def database(tmp_path):
    made = sqlite_database(tmp_path)
    yield made
    made.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def archive(database):
    return FakeArchive(database)


@pytest.fixture
def parts(database, clock, archive, tmp_path):
    rule = ArchiveRule(queries_a_minute=6000, retrievals_a_minute=6000, at_once=1, page=10)
    ways = ArchiveParts(archive, lambda _: 0, rule, clock.advance)
    return ReanalysisCollaborators(database, lambda: NEW, ReanalysisRule(), clock, FakeStore(tmp_path), ways)


def limited(parts, **values):
    return replace(parts, archive=replace(parts.archive, rule=replace(parts.archive.rule, **values)))


def ask(parts, **values):
    request = Request(source=ARCHIVE, since=date(2026, 2, 25), until=date(2026, 2, 28)) if not values else values["of"]
    return runs.start(parts.database, request, model_version=NEW, asked_by="a test", now=parts.clock())


def night(parts, steps=3):
    """Let time pass: steps, quiet studies that are closed, and jobs that end."""
    for _ in range(steps):
        step(parts)
        close_quiet_studies(
            parts.database, Models(parts.model_version()), quiet_seconds=1, now=parts.clock.now, limit=100
        )
        end_jobs(parts.database)
        parts.clock.advance(5)


def end_jobs(database):
    with database.write() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state="done", finished_at=MORNING))


def items(database):
    with database.read() as session:
        rows = session.scalars(select(ReanalysisItem).order_by(ReanalysisItem.id))
        return [(row.study_instance_uid.removeprefix("2.25."), row.state, row.reason_code) for row in rows]


def the_run(database):
    with database.read() as session:
        return session.scalars(select(ReanalysisRun).order_by(ReanalysisRun.id.desc()).limit(1)).one()


def count(database, *conditions):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Job).where(*conditions))


def files(database):
    """Return how many instances have their file."""
    with database.read() as session:
        return session.scalar(
            select(func.count()).select_from(Instance).where(Instance.file_deleted_at.is_(None))
        )  # fmt: skip


def test_a_night_finds_retrieves_analyses_and_deletes_what_it_brought(database, parts, archive):
    archive.studies = {1: "20260225", 2: DAY}
    ask(parts)

    night(parts)

    assert items(database) == [("2", "done", None), ("1", "done", None)], "newest first"
    assert the_run(database).state == "finished"
    assert count(database, Job.model_version == NEW, Job.lane == "archive") == 2
    assert files(database) == 0
    with database.read() as session:
        assert set(session.scalars(select(Instance.file_deleted_reason))) == {"retrieved_copy"}


def test_a_second_night_retrieves_nothing_and_one_with_another_model_everything(database, parts, archive):
    archive.studies = {1: "20260225", 2: DAY}
    ask(parts)
    night(parts)
    ask(parts)
    night(parts)
    assert archive.retrieved == ["2", "1"]

    newer = replace(parts, model_version=lambda: NEWER)
    runs.start(database, Request(ARCHIVE), model_version=NEWER, asked_by="a test", now=parts.clock())
    night(newer)

    assert archive.retrieved == ["2", "1", "2", "1"]
    assert (count(database, Job.model_version == NEW), count(database, Job.model_version == NEWER)) == (2, 2)
    assert files(database) == 0


def test_a_study_that_is_here_is_analysed_without_asking_for_it_and_one_that_arrives_is_left_alone(
    database, parts, archive
):
    archive.studies = {1: DAY, 2: DAY, 3: DAY}
    with database.write() as session:
        for number, state in ((1, "complete"), (2, "receiving")):
            study = a_study(session, number, state=state)
            an_instance(session, study)
            if number == 1:
                a_job(session, study, digest=current_digest(session, study.id), model_version=OLD)
    ask(parts)

    step(parts)

    assert archive.retrieved == ["3"]
    assert count(database, Job.model_version == NEW) == 1
    night(parts)
    assert files(database) == 2, "what was pushed stays"


def test_a_study_that_was_purged_is_retrieved_and_its_copy_goes_again(database, parts, archive):
    archive.studies = {1: DAY}
    with database.write() as session:
        study = a_study(session, 1)
        an_instance(session, study, file_deleted_reason="purged", file_deleted_at=MORNING)
        a_job(session, study, digest=current_digest(session, study.id), model_version=OLD)
    ask(parts)

    night(parts)

    assert items(database) == [("1", "done", None)]
    assert count(database, Job.model_version == NEW) == 1
    assert files(database) == 0


def test_a_study_that_is_pushed_while_it_is_retrieved_keeps_its_files(database, parts, archive):
    archive.studies = {1: DAY}
    ask(parts)
    step(parts)
    with database.write() as session:
        session.execute(update(Study).values(source="push"))

    night(parts)

    assert items(database) == [("1", "done", None)]
    assert files(database) == 1


def test_a_study_that_went_since_it_was_found_fails_at_once_with_the_reason(database, parts, archive):
    archive.studies = {1: DAY, 2: DAY}
    archive.retrieves = Script([lambda _: archive.studies.pop(1), None])
    ask(parts)

    night(parts)

    assert items(database) == [("1", "failed", "not_found"), ("2", "done", None)]
    assert the_run(database).state == "finished"


def test_what_comes_in_part_is_tried_again_and_then_given_up_unanalysed(database, parts, archive, clock):
    archive.studies, archive.images = {1: DAY}, 3
    archive.retrieves = Script([2])
    ask(parts)

    for _ in range(MOST_ATTEMPTS):
        night(parts, steps=1)
        clock.advance(600)
    night(parts)

    assert items(database) == [("1", "failed", "incomplete")]
    assert len(archive.retrieved) == MOST_ATTEMPTS
    assert (count(database), files(database)) == (0, 0)
    with database.read() as session:
        assert "1 of 3 instances did not come: no room" in session.scalars(select(ReanalysisItem.reason)).one()


def test_a_part_that_is_followed_by_the_rest_gives_one_job_of_the_whole(database, parts, archive, clock):
    archive.studies, archive.images = {1: DAY}, 3
    archive.retrieves = Script([2, None])
    ask(parts)

    night(parts, steps=1)
    assert count(database) == 0, "it must not be closed while it is not whole"
    clock.advance(600)
    night(parts)

    assert items(database) == [("1", "done", None)]
    assert count(database) == 1


def test_a_study_on_which_the_archive_breaks_is_given_up_and_does_not_keep_the_others(database, parts, archive, clock):
    archive.studies = {1: DAY, 2: DAY}

    def breaks_on_the_first(uid):
        if uid == "2.25.1":
            raise PeerUnreachable("archive: the association broke")

    archive.retrieves = Script([breaks_on_the_first])
    ask(parts)

    for _ in range(MOST_ATTEMPTS + 1):
        night(parts, steps=1)
        clock.advance(700)
    night(parts)

    assert items(database) == [("1", "failed", "peer_unreachable"), ("2", "done", None)]
    assert the_run(database).state == "finished"


def test_an_archive_that_is_down_costs_no_study_an_attempt_and_the_run_says_why_it_waits(
    database, parts, archive, clock
):
    archive.studies = {1: DAY}
    ask(parts)
    down = PeerUnreachable("archive: 10.0.0.5 cannot be reached")
    is_down = [True]

    def reached(_):
        if is_down[0]:
            raise down

    archive.finds, archive.retrieves = Script([None, reached]), Script([reached])

    for _ in range(12):
        night(parts, steps=1)
        if the_run(database).retry_at is not None:
            assert the_run(database).reason == str(down)
        clock.advance(700)
    assert items(database) == [("1", "retrieving", "peer_unreachable")]
    is_down[0] = False
    night(parts)

    assert items(database) == [("1", "done", None)]
    assert the_run(database).reason is None


def test_wrong_settings_are_the_runs_reason_and_not_a_thousand_failed_studies(database, parts, archive, clock):
    archive.studies = dict.fromkeys(range(1, 10), DAY)
    archive.retrieves = Script([PeerRefused("archive: Move Destination unknown (0xA801)")])
    ask(parts)

    night(parts)

    assert "Move Destination unknown" in the_run(database).reason
    assert len(archive.retrieved) < 9
    assert all(state in {"retrieving", "found"} for _, state, _ in items(database))


def test_a_question_that_the_archive_refuses_makes_the_run_wait_and_go_on(database, parts, archive, clock):
    archive.studies = {1: DAY}
    archive.finds = Script([PeerRefused("archive: calling AE title not recognised"), None])
    ask(parts)

    step(parts)
    assert "not recognised" in the_run(database).reason
    assert len(archive.questions) == 1
    clock.advance(700)
    night(parts)

    assert items(database) == [("1", "done", None)]


@pytest.mark.parametrize("answer", [None, PeerBusy("archive: too many matches")])
def test_a_day_of_more_studies_than_a_page_is_asked_for_in_parts(database, parts, archive, answer):
    archive.studies = dict.fromkeys(range(1, 9), DAY)
    archive.finds = Script([answer, None])
    ask(limited(parts, page=8 if answer else 7), of=Request(ARCHIVE, since=date(2026, 2, 28), until=date(2026, 2, 28)))

    step(limited(parts, page=8))

    assert len(items(database)) == 8
    assert len(set(archive.retrieved)) == 8


def test_an_answer_that_comes_twice_is_one_study(database, parts, archive):
    archive.studies = {1: DAY, 2: DAY}
    whole = archive.find

    def doubled(query, limit):
        page = whole(query, limit)
        return replace(page, studies=page.studies * 2)

    archive.find = doubled
    ask(parts)

    night(parts)

    assert sorted(archive.retrieved) == ["1", "2"]
    assert count(database) == 2


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
