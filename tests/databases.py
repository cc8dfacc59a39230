"""Databases for tests, made by the migrations as in production, and the rows that tests begin with."""

from __future__ import annotations

import functools
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from worker.connection_url import parse_database_url
from worker.database import Database, open_database, upgrade
from worker.tables import Base

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


class Clock:
    """A clock that goes on only when a test says so."""

    def __init__(self, now: datetime = MORNING) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def sqlite_database(folder: Path) -> Database:
    """Return an empty, upgraded SQLite database in this folder; the migrations run once for all tests."""
    path = folder / "bonewatch.sqlite3"
    path.write_bytes(_empty_sqlite())
    return open_database(parse_database_url(f"sqlite:///{path}"))


@functools.cache
def _empty_sqlite() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="bonewatch-test-"))
    try:
        upgrade(parse_database_url(f"sqlite:///{folder}/empty.sqlite3"))
        return (folder / "empty.sqlite3").read_bytes()
    finally:
        shutil.rmtree(folder)


def emptied(database: Database) -> Database:
    """Return an upgraded PostgreSQL database without a row."""
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with database.write() as session:
        session.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    return database
