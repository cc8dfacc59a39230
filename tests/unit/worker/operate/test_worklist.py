"""The worklist's pages; tests/integration/postgresql runs the same on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.databases import MORNING, a_job, a_study, an_instance
from worker.db.tables import Study
from worker.operate import worklist
from worker.operate.worklist import Place, WorklistFilter, parse_place, worklist_page

EARLIER = "2025-01-01-other+89abcdef"


def fill(database, outcomes, **of_job):
    """Add studies 1, 2, ... with these outcomes, a minute apart; None waits."""
    with database.write() as session:
        for number, outcome in enumerate(outcomes, 1):
            moment = MORNING + timedelta(minutes=number)
            study = a_study(session, number, first_instance_at=moment)
            an_instance(session, study, body_part_examined="HAND" if number % 2 else "KNEE")
            waiting = {"state": "queued", "finished_at": None} if outcome is None else {}
            a_job(session, study, outcome=outcome, **waiting, **of_job)


def numbers(page):
    return [row.study_id for row in page.rows]


def walk(database, wanted, size):
    """Return the pages from the first to the last."""
    pages, place = [], None
    while True:
        page = worklist_page(database, wanted, place, size=size)
        pages.append(numbers(page))
        if page.onward is None:
            return pages
        place = parse_place(str(page.onward))


def test_the_newest_study_comes_first_and_pages_neither_leave_out_nor_repeat_one(database):
    fill(database, ["absent"] * 7)
    assert walk(database, WorklistFilter(), 3) == [[7, 6, 5], [4, 3, 2], [1]]


def test_a_study_that_arrives_meanwhile_moves_no_row_of_a_later_page(database):
    fill(database, ["absent"] * 4)
    first = worklist_page(database, WorklistFilter(), size=2)
    with database.write() as session:
        a_study(session, 5)
    assert numbers(worklist_page(database, WorklistFilter(), first.onward, size=2)) == [2, 1]


def test_positive_first_shows_present_then_inconclusive_then_all_others_once(database):
    fill(database, ["present", "absent", "inconclusive", "failed", None, "present", "inconclusive"])
    assert walk(database, WorklistFilter(positive_first=True), 2) == [[6, 1], [7, 3], [5, 4], [2]]


@pytest.mark.parametrize("rare", [0, 1000])
def test_no_row_is_lost_where_a_page_ends_with_a_group_or_within_one(database, monkeypatch, rare):
    monkeypatch.setattr(worklist, "RARE", rare)
    fill(database, ["inconclusive", "absent", "present", "inconclusive", "present", "inconclusive"])
    assert walk(database, WorklistFilter(positive_first=True), 2) == [[5, 3], [6, 4], [1, 2]]
    assert walk(database, WorklistFilter(positive_first=True), 3) == [[5, 3, 6], [4, 1, 2]]


@pytest.mark.parametrize("rare", [0, 1000])
@pytest.mark.parametrize(("outcome", "expected"), [("present", [4, 1]), ("failed", [3]), ("waiting", [2])])
def test_an_outcome_is_found_whether_rare_or_common(database, monkeypatch, outcome, expected, rare):
    monkeypatch.setattr(worklist, "RARE", rare)
    fill(database, ["present", None, "failed", "present"])
    assert numbers(worklist_page(database, WorklistFilter(outcome=outcome))) == expected


def test_only_the_newest_answer_of_a_study_counts(database):
    fill(database, ["present"], model_version=EARLIER)
    with database.write() as session:
        a_job(session, session.get_one(worklist.Study, 1), outcome="absent", digest="other")
    assert numbers(worklist_page(database, WorklistFilter(outcome="present"))) == []
    assert numbers(worklist_page(database, WorklistFilter(model=EARLIER))) == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"body_part": "knee"}, [2]),
        ({"body_part": "100%"}, []),
        ({"text": "P-2"}, [2]),
        ({"text": "A-1"}, [1]),
        ({"text": "2.25.3"}, [3]),
        ({"text": "P-"}, []),
        ({"model": "2026-03"}, [3, 2, 1]),
        ({"model": "%"}, []),
        ({"since": MORNING + timedelta(minutes=2)}, [3, 2]),
        ({"until": MORNING + timedelta(minutes=2)}, [1]),
        ({"since": MORNING + timedelta(days=1)}, []),
        ({"until": MORNING}, []),
        ({"body_part": "HAND", "since": MORNING + timedelta(minutes=2)}, [3]),
    ],
)
def test_each_filter_leaves_what_it_names(database, wanted, expected):
    fill(database, ["absent"] * 3)
    assert numbers(worklist_page(database, WorklistFilter(**wanted))) == expected


@pytest.mark.parametrize("rare", [0, 1, 2, 9])
def test_a_body_part_is_found_through_its_index_and_on_the_way_alike(database, monkeypatch, rare):
    monkeypatch.setattr(worklist, "RARE", rare)
    fill(database, ["absent"] * 5)
    with database.write() as session:
        an_instance(session, session.get_one(Study, 4), 2, body_part_examined="Hand")
        an_instance(session, session.get_one(Study, 5), 2, body_part_examined="hand")
    assert walk(database, WorklistFilter(body_part="hand"), 3) == [[5, 4, 3], [1]]


def test_a_page_that_took_too_long_says_so_and_goes_on_where_it_ended(database, monkeypatch):
    monkeypatch.setattr(worklist, "FIRST_WINDOW", 2)
    monkeypatch.setattr(worklist, "RARE", 0)
    fill(database, ["present", *["absent"] * 5])
    wanted = WorklistFilter(model="2026", body_part="HAND")
    page = worklist_page(database, wanted, size=5, patience_seconds=0)
    assert (numbers(page), page.onward, page.looked_at_all) == ([5], Place(0, 5), False)
    rest = worklist_page(database, wanted, page.onward, size=5)
    assert (numbers(rest), rest.onward, rest.looked_at_all) == ([3, 1], None, True)


def test_an_empty_database_has_an_empty_page(database):
    assert worklist_page(database, WorklistFilter(positive_first=True)).rows == ()


@pytest.mark.parametrize("text", [None, "", "0", "3.5", "0.-1", "0.1' OR 1", "0." + "9" * 19, "٠.١"])
def test_a_place_that_makes_no_sense_is_none(text):
    assert parse_place(text) is None
