"""The page of archive nights without a browser."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from streamlit.testing.v1 import AppTest

from tests.databases import MORNING, a_job, a_study, an_instance
from tests.fakes_worker import FakeStore
from worker.db.tables import Event, Job
from worker.reanalysis.limits import ReanalysisCollaborators, ReanalysisRule
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import STORE, Request, change_state, start
from worker.settings.settings import load_settings
from worker.ui.visit import Visit

OLD, NEW = "2026-03-01-first+01234567", "2026-09-01-second+89abcdef"


@pytest.fixture
def visit(tmp_path, database):
    return Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "bob", "viewer")


@pytest.fixture
def begin(database, clock, tmp_path):
    """Begin a run over so many studies of an older model, and let as many of them be queued as may wait."""

    def beginning(*, studies, waiting, maximum=None):
        with database.write() as session:
            for number in range(1, studies + 1):
                study = a_study(session, number)
                an_instance(session, study)
                a_job(session, study, model_version=OLD)
        run = start(database, Request(STORE, maximum_studies=maximum), model_version=NEW, asked_by="ada", now=MORNING)
        rule = ReanalysisRule(waiting=waiting)
        step(ReanalysisCollaborators(database, lambda: NEW, rule, clock, FakeStore(tmp_path)))
        return run

    return beginning


def look(visit):
    def page(visit):
        from worker.ui import page_archive  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_archive.show(visit, None)

    return AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30).run()


def ask(page):
    next(each for each in page.button if each.label == "How much is left?").click().run()
    assert not page.exception


def said(page):
    """Return what stands on the page of what is left."""
    return [each.value for each in page.text if "studies are left" in each.value]


def test_a_viewer_may_ask_how_much_is_left_and_leaves_a_trace(database, visit):
    run = start(database, Request(STORE), model_version="m", asked_by="ada", now=MORNING)
    page = look(visit)
    ask(page)
    assert "0 studies are left" in said(page)[0]
    with database.read() as session:
        (pressed,) = session.scalars(select(Event).filter_by(kind="page_pressed"))
    assert pressed.detail == {"by": "bob", "what": f"how much is left of re-analysis {run}"}


@pytest.mark.parametrize(("maximum", "left"), [(None, 6), (5, 5)])
def test_what_is_queued_is_left_until_it_is_answered(database, visit, begin, maximum, left):
    begin(studies=6, waiting=4, maximum=maximum)
    page = look(visit)
    ask(page)
    assert f"{left} studies are left" in said(page)[0]

    with database.write() as session:
        session.execute(update(Job).where(Job.state == "queued").values(state="done", finished_at=MORNING))
    ask(page)
    assert f"{left - 4} studies are left" in said(page)[0]


def test_the_answer_stays_until_the_run_ends(database, clock, visit, begin):
    run = begin(studies=2, waiting=1)
    page = look(visit)
    ask(page)
    answer = said(page)
    page.run()
    assert said(page) == answer != []

    assert change_state(database, run, "stopped", who="ada", now=clock())
    page.run()
    assert said(page) == []
