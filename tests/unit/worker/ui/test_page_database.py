"""The page while its database is away: nobody else waits, everybody is told in words, nothing goes without a trace."""

from __future__ import annotations

import asyncio
import logging

import pytest
from sqlalchemy import select
from streamlit.config import get_option, set_option
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.starlette import App
from streamlit.testing.v1 import AppTest
from structlog.testing import capture_logs

from worker.db.tables import Event
from worker.errors import DatabaseUnavailable
from worker.settings.settings import load_settings
from worker.ui import visit as visits
from worker.ui.access.login_methods import LoginMethods
from worker.ui.serve import NO_DATABASE, SCRIPT, audit_recorder, script_error, serve
from worker.ui.visit import Visit

PATIENT = "DOE^JANE"
RICH = "logger.enableRich"


class Away:
    """A database that does not answer."""

    def read(self):
        raise DatabaseUnavailable("the database cannot be used: database is locked")

    write = read


def events(database):
    with database.read() as session:
        return [(each.kind, each.detail["by"]) for each in session.scalars(select(Event))]


def test_while_the_database_is_locked_only_who_logs_in_waits(database):
    async def log_in_and_others():
        with database.write():
            login = asyncio.create_task(audit_recorder(database)("page_login", "ada"))
            await asyncio.sleep(0)
            await asyncio.to_thread(str)  # another visitor's turn comes
            assert not login.done()
        await login

    asyncio.run(log_in_and_others())
    assert events(database) == [("page_login", "ada")]


@pytest.fixture
def visited(tmp_path, monkeypatch):
    """Run the whole page as the server runs it, over some database."""

    def visiting(database):
        def current_visit():
            get_script_run_ctx().on_script_error = script_error
            return Visit(load_settings(home=tmp_path), database, "ada", "viewer")

        monkeypatch.setattr(visits, "current_visit", current_visit)
        return AppTest.from_file(SCRIPT, default_timeout=300).run()

    return visiting


def test_a_page_says_in_words_that_its_database_is_away_and_the_log_says_why(visited):
    with capture_logs() as logs:
        page = visited(Away())
    assert [each.value for each in page.error] == [NO_DATABASE]
    assert not page.exception
    (entry,) = [each for each in logs if each["event"] == "page_failed"]
    assert (entry["error"], entry["reason"]) == (
        "DatabaseUnavailable",
        "the database cannot be used: database is locked",
    )


def test_a_part_that_refreshes_itself_says_so_too(visited, database, monkeypatch):
    def away(*_):
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr("worker.ui.page_worklist.worklist_page", away)
    page = visited(database)
    assert [each.value for each in page.title] == ["Worklist"]
    assert [each.value for each in page.error] == [NO_DATABASE]


def test_a_look_that_could_not_be_recorded_is_recorded_when_the_page_is_shown(visited, database, monkeypatch):
    page = visited(Away())
    monkeypatch.setattr(Away, "write", database.write)
    page.run()
    assert events(database) == [("page_viewed", "ada")]


@pytest.fixture
def served(tmp_path, database, monkeypatch):
    """Set Streamlit up as the server does, but serve nothing; return what its logger writes."""
    written, logger, with_rich = [], logging.getLogger("streamlit.error_util"), get_option(RICH)
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "handle", written.append)
    monkeypatch.setattr(App, "run", lambda _, config: set_option(RICH, config.get(RICH, True)))
    serve(load_settings(home=tmp_path), database, LoginMethods())
    yield written
    set_option(RICH, with_rich)


def test_what_a_page_fails_with_is_logged_without_its_words(served, capsys):
    def failing(words):
        from streamlit.runtime.scriptrunner import get_script_run_ctx  # noqa: PLC0415 - AppTest runs the body alone

        from worker.ui.serve import script_error  # noqa: PLC0415

        get_script_run_ctx().on_script_error = script_error
        raise ValueError(words)

    with capture_logs() as logs:
        page = AppTest.from_function(failing, args=(PATIENT,), default_timeout=30).run()
    assert page.exception
    assert [each["error"] for each in logs if each["event"] == "page_failed"] == ["ValueError"]
    assert PATIENT not in str((logs, served, capsys.readouterr()))
