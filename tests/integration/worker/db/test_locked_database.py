"""A database that somebody else holds for long: a sender hears "later" after one wait of a few seconds."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager

from sqlalchemy import text
from typer.testing import CliRunner

from dicom_io.header.scope import ScopeRule
from tests.builders import build_cr
from tests.databases import count, sqlite_database
from tests.listening import listening, request_for
from worker.cli.root import app
from worker.db.database import Database
from worker.db.tables import Instance
from worker.errors import StartRefused
from worker.queue import bootstrap
from worker.reception.intake import SqlIntake
from worker.reception.receptions import RECEPTION_SECONDS


class Waits(SqlIntake):
    """Counts what waits for the database."""

    asked = ()

    def register(self, *what):
        self.asked += ("register",)
        return super().register(*what)

    def reject(self, rejection):
        self.asked += (rejection.code,)
        super().reject(rejection)


@contextmanager
def held(path):
    """Hold SQLite's write lock, as a program does that writes for minutes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_database_is_answered_later_after_one_wait_and_the_next_try_succeeds(tmp_path):
    made = sqlite_database(tmp_path)
    database = Database(made.url, timeout_seconds=0.2)
    intake = Waits(database, ScopeRule(), backoff=float)
    with listening(tmp_path, intake) as running:
        with held(made.url.database):
            assert running.push(request_for(build_cr())) == [0xA700]
            # The record of the refusal would wait for the same lock, and the sender for both.
            assert intake.asked == ("register",)
        assert running.push(request_for(build_cr())) == [0x0000]
    assert count(made, Instance) == 1
    for each in (database, made):
        each.close()


def test_nobody_waits_for_a_connection_and_then_for_the_lock_as_well(tmp_path):
    made = sqlite_database(tmp_path)
    database = Database(made.url, timeout_seconds=0.2)
    # As many as associations, and more than a pool holds by default.
    connections = [database.engine.connect() for _ in range(25)]
    for each in connections:
        each.close()
    for each in (database, made):
        each.close()


def test_the_listener_waits_for_its_database_for_less_than_five_seconds(tmp_path, monkeypatch):
    waits = []

    def build(_settings, database):
        with database.read() as session:
            waits.append((database.timeout_seconds, session.scalar(text("PRAGMA busy_timeout"))))
        raise StartRefused("this is all that the test wants to know")

    monkeypatch.setattr(bootstrap, "build_listener", build)
    sqlite_database(tmp_path).close()
    CliRunner().invoke(app, ["listen", "--home", str(tmp_path)])
    assert waits == [(RECEPTION_SECONDS, RECEPTION_SECONDS * 1000)]
    assert RECEPTION_SECONDS < 5
