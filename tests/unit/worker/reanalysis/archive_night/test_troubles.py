"""What an archive does wrong: each study gets its reason, and no other study waits for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import select

from dicom_io.errors import PeerBusy, PeerRefused, PeerUnreachable
from tests.archive_nights import DAY, ask, count, files, items, limited, night, the_run
from tests.fakes_worker import Script
from worker.db.tables import ReanalysisItem
from worker.reanalysis.parts import MOST_ATTEMPTS
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import ARCHIVE, Request


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
