"""The page of operations without a browser: who lives, and what can be done about what failed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from tests.databases import MORNING, a_job, a_study
from tests.fakes_worker import FakeQueue
from worker.db.base import utc_now
from worker.db.tables import Companion, Report, Scheduler
from worker.queue.presence import PRESENT_FOR
from worker.settings.settings import load_settings
from worker.ui import page_operations
from worker.ui.visit import Visit
from worker.ui.words import moment


@pytest.fixture
def look(tmp_path, database, monkeypatch):
    """Look at the page as an operator; return it and its tables, by what a screen reader calls them."""

    def page(visit):
        from worker.ui import page_operations  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_operations.show(visit)

    def looking():
        tables = {}
        monkeypatch.setattr(page_operations, "CeleryQueue", lambda _: FakeQueue())
        monkeypatch.setattr(page_operations, "show_rows", lambda words, _, rows, __: tables.update({words: rows}))
        visit = Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "ada", "operator")
        test = AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30).run()
        assert not test.exception
        return test, tables

    return looking


def values(elements):
    return [each.value for each in elements]


def warned(page):
    return any(words.startswith("No scheduler was seen in the last 20 s.") for words in values(page.warning))


def test_schedulers_are_shown_with_when_they_were_seen(look, database):
    now = utc_now()
    with database.write() as session:
        session.add_all(Scheduler(token=name, name=name, started_at=now, seen_at=now) for name in ("one", "two"))
    page, tables = look()
    assert [row.cells for row in tables["Schedulers"]] == [("one", moment(now)), ("two", moment(now))]
    assert not warned(page)


def test_a_scheduler_that_was_not_seen_lately_is_missed(look, database):
    at = utc_now() - PRESENT_FOR - timedelta(seconds=1)
    with database.write() as session:
        session.add(Scheduler(token="one", name="one", started_at=at, seen_at=at))
    page, tables = look()
    assert warned(page)
    assert "Schedulers" not in tables


def test_the_page_says_that_workers_without_work_are_not_listed(look):
    page, _ = look()
    assert "Who finished an analysis in the last hour or is at one now. Workers without work are not listed." in values(
        page.caption
    )


def test_a_picture_that_could_not_be_made_says_what_to_do_and_has_no_button(look, database):
    with database.write() as session:
        job = a_job(session, a_study(session))
        report = Report(job_id=job.id, state="built", built_at=MORNING)
        report.companions = [Companion(kind="capture", number=1, state="failed", reason="no memory")]
        session.add(report)
        a_job(session, a_study(session, 2), state="failed", outcome="failed", reason="cut off")
    page, _ = look()
    assert f"Marked image: 1, the last {moment(MORNING + timedelta(minutes=2))}" in values(page.text)
    assert "no memory" in values(page.text)
    assert [words for words in values(page.caption) if "press *Analyse again* on the page of each study" in words]
    assert [each.label for each in page.button] == ["Do 1 again"], "the analysis'"
