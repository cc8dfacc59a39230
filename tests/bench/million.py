"""A million study results in PostgreSQL, and how long the queries of docs/database.md take on them.

    python -m tests.bench.million                      # 1,000,000 studies, in a cluster of its own that goes afterwards
    python -m tests.bench.million --studies 50000
    python -m tests.bench.million --studies 10000 --database-url postgresql://...    # an empty database, kept

The rows are drawn by the server itself (`fill.sql`). Each query of the page runs once to warm up and five times more;
the median must stay below `--limit` milliseconds. `bonewatch status`, the first page of `bonewatch results` and pages
of the worklist are measured beside them. The exit status is 1 where a query of the page is slower.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import text

from dicom_io.types import Outcome
from tests.bench.timing import median_milliseconds
from tests.bench.worklist import views
from tests.documents import queries
from tests.servers import postgres_server
from worker.db.database import Database, open_database, upgrade
from worker.operate.results import ResultFilter, results
from worker.operate.status import snapshot
from worker.operate.worklist import worklist_page
from worker.settings.connection_url import parse_database_url

FIRST, SECOND = "2025-11-25-first+01234567", "2026-02-25-second+89abcdef"
NOW = datetime(2026, 3, 9, tzinfo=UTC)


class NoQueue:
    """A broker in which nothing waits: what is measured is SQL."""

    def lengths(self) -> dict[str, int]:
        """Return no length."""
        return {}


def fill(database: Database, studies: int, say: Callable[[str], None] = print) -> None:
    """Draw so many studies with all that belongs to them into an empty database, and let the server count them.

    Indexes are made again afterwards: sorting once is several times as fast as finding a place for every row.
    """
    words = Path(__file__).with_name("fill.sql").read_text()
    values = {"studies": studies, "again": max(studies // 100, 1), "first": FIRST, "second": SECOND}
    # The server's own driver: to SQLAlchemy the colons of the casts would be parameters.
    connection = database.engine.raw_connection()
    try:
        cursor = connection.cursor()
        for name, table, _ in (dropped := _indexes(cursor)):
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
            cursor.execute(f"DROP INDEX IF EXISTS {name}")
        for statement in (*words.format(**values).split(";\n"), *(again for _, _, again in dropped)):
            started = time.perf_counter()
            cursor.execute(statement)
            if (seconds := time.perf_counter() - started) > 1:
                say(f"  {' '.join(statement.split())[:60]:60} {seconds:7.1f} s")
        connection.commit()
        connection.driver_connection.autocommit = True
        cursor.execute("VACUUM ANALYZE")
        connection.driver_connection.autocommit = False
    finally:
        connection.close()


def _indexes(cursor: Any) -> list[tuple[str, str, str]]:
    """Return name, table and definition of every index and unique constraint beside the primary keys."""
    cursor.execute(
        "SELECT c.conname, c.conrelid::regclass::text, 'ALTER TABLE ' || c.conrelid::regclass || ' ADD CONSTRAINT '"
        " || c.conname || ' ' || pg_get_constraintdef(c.oid) FROM pg_constraint c"
        " WHERE c.contype = 'u' AND c.connamespace = 'public'::regnamespace"
        " UNION ALL SELECT i.indexname, i.tablename, i.indexdef FROM pg_indexes i WHERE i.schemaname = 'public'"
        " AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname)"
    )
    return [(str(name), str(table), str(definition)) for name, table, definition in cursor.fetchall()]


def measured(database: Database) -> Iterator[tuple[str, float, int]]:
    """Yield title, milliseconds and number of rows of every query of the page."""
    for title, query in queries("postgresql"):
        rows: list[object] = []

        def work(query: str = query, rows: list[object] = rows) -> None:
            with database.read() as session:
                rows[:] = session.execute(text(query)).all()

        yield title, median_milliseconds(work), len(rows)


def commands(database: Database) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what the commands ask, by what is typed."""
    day = datetime(2026, 3, 8, tzinfo=UTC)

    def asks(limit: int = 50, **wanted: object) -> Callable[[], object]:
        return lambda: list(results(database, ResultFilter(**wanted), limit=limit))  # type: ignore[arg-type]

    yield "results", asks()
    yield "results --outcome failed", asks(outcome=Outcome.FAILED)
    yield "results --since yesterday", asks(since=day)
    yield "results --until 2024-01-01", asks(until=datetime(2024, 1, 1, tzinfo=UTC))
    yield (
        "results --outcome present --since 2026-03-01 --format csv",
        asks(100_000, outcome=Outcome.PRESENT, since=datetime(2026, 3, 1, tzinfo=UTC)),
    )
    yield "results --model 2026", asks(model="2026")
    yield "results --accession A-77", asks(accession_number="A-77")
    yield "status", lambda: snapshot(database, NoQueue(), NOW)


@contextmanager
def cluster(address: str | None) -> Iterator[str]:
    """Yield the given address, or that of a PostgreSQL of our own."""
    with nullcontext(address) if address else postgres_server() as found:
        yield str(found)


def main() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument("--database-url", help="an empty PostgreSQL database; a cluster of its own if not given")
    parser.add_argument("--limit", type=float, default=100.0, metavar="MILLISECONDS")
    wanted = parser.parse_args()
    with cluster(wanted.database_url) as address:
        url = parse_database_url(address)
        upgrade(url)
        # Filling takes minutes in one statement; what is measured afterwards has no need of this patience.
        database = open_database(url, timeout_seconds=1800)
        try:
            started = time.perf_counter()
            fill(database, wanted.studies)
            print(f"{wanted.studies:,} studies drawn in {time.perf_counter() - started:.0f} s")
            return _report(database, wanted.studies, wanted.limit)
        finally:
            database.close()


def _report(database: Database, studies: int, limit: float) -> int:
    slow = 0
    for title, milliseconds, rows in measured(database):
        slow += milliseconds > limit
        print(f"{milliseconds:8.1f} ms  {rows:6d} rows  {title}{'  TOO SLOW' if milliseconds > limit else ''}")
    for name, work in commands(database):
        print(f"{median_milliseconds(work):8.1f} ms               bonewatch {name}")
    for words, wanted, place in views(studies):
        taken = median_milliseconds(partial(worklist_page, database, wanted, place))
        print(f"{taken:8.1f} ms               worklist: {words}")
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
