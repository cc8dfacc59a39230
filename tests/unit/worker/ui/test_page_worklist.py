"""The worklist without a browser: what looks and searches leave behind, and what a screen reader hears."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from tests.databases import a_job, a_study
from worker.db.tables import Event
from worker.operate.worklist import PAGE_SIZE
from worker.settings.settings import load_settings
from worker.ui import page_worklist
from worker.ui.visit import Visit


@pytest.fixture
def page(tmp_path, database, monkeypatch):
    """Look at a worklist of one page and one study more; `heard` are the names of its tables, `seen` their studies."""
    with database.write() as session:
        for number in range(1, PAGE_SIZE + 2):
            a_job(session, a_study(session, number))
    heard, seen = [], []

    def show_rows(words, _columns, rows, _key):
        heard.append(words)
        seen.append([row.study_instance_uid for row in rows])

    monkeypatch.setattr(page_worklist, "show_rows", show_rows)

    def body(visit):
        from worker.ui import page_worklist  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_worklist.show(visit, None)

    visit = Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "ada", "viewer")
    test = AppTest.from_function(body, kwargs={"visit": visit}, default_timeout=30).run()
    test.heard, test.seen = heard, seen
    assert not test.exception
    return test


def trace(database):
    with database.read() as session:
        return [
            (event.kind, event.detail["what"], event.detail["by"])
            for event in session.scalars(select(Event).order_by(Event.id))
        ]


def press(page, label):
    next(each for each in page.button if each.label == label).click().run()
    assert not page.exception


def test_each_turn_to_another_page_leaves_a_trace(page, database):
    press(page, "Older ▶")
    page.run()
    press(page, "◀ Newest")
    assert trace(database) == [
        ("page_viewed", "worklist", "ada"),
        ("page_pressed", "worklist: page below study 2; filters: none", "ada"),
        ("page_pressed", "worklist: newest page; filters: none", "ada"),
    ]


def test_each_search_leaves_a_trace_without_what_was_searched_for(page, database):
    for patient in ("P-1", "P-2"):
        page.text_input[0].set_value(patient).run()
    page.toggle[0].set_value(True).run()
    assert [what for kind, what, _ in trace(database) if kind == "page_pressed"] == [
        "worklist: newest page; filters: Patient ID, accession number or study UID",
        "worklist: newest page; filters: Patient ID, accession number or study UID",
        "worklist: newest page; filters: Patient ID, accession number or study UID; positive first",
    ]


def test_a_screen_reader_hears_which_studies_come_first(page):
    assert page.heard[-1] == "Studies, newest first"
    page.toggle[0].set_value(True).run()
    assert page.heard[-1] == "Studies, positive first"


def test_the_list_follows_the_address_back_and_forward_again(page, database):
    with database.write() as session:
        a_job(session, a_study(session, 100), outcome="present")
    (outcome,) = page.button_group
    outcome.set_value("present").run()
    assert page.query_params == {"outcome": "present"}
    assert page.seen[-1] == ["2.25.100"]

    page.query_params.clear()
    page.run()
    assert page.session_state[page_worklist.CHOSEN] == "all"
    assert len(page.seen[-1]) == PAGE_SIZE

    page.query_params["outcome"] = "present"
    page.run()
    assert page.session_state[page_worklist.CHOSEN] == "present"
    assert page.seen[-1] == ["2.25.100"]
