"""The page of archive nights without a browser."""

from __future__ import annotations

from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from tests.databases import MORNING
from worker.reanalysis_runs import STORE, Request, start
from worker.settings import load_settings
from worker.tables import Event
from worker.ui.visit import Visit


def test_a_viewer_may_ask_how_much_is_left_and_leaves_a_trace(tmp_path, database):
    def page(visit):
        from worker.ui import page_archive  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_archive.show(visit, None)

    run = start(database, Request(STORE), model_version="m", asked_by="ada", now=MORNING)
    visit = Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "bob", "viewer")
    test = AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30).run()
    next(each for each in test.button if each.label == "How much is left?").click().run()
    assert any("0 studies are left" in each.value for each in test.text)
    with database.read() as session:
        (pressed,) = session.scalars(select(Event).filter_by(kind="page_pressed"))
    assert pressed.detail == {"by": "bob", "what": f"how much is left of re-analysis {run}"}
