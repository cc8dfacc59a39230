"""How long a page of the worklist takes on SQLite, as the page's own server asks for it.

    python -m tests.bench.worklist                     # 100,000 studies
    python -m tests.bench.worklist --studies 1000000

`tests.bench.million` measures the same on PostgreSQL.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import text

from tests.bench.timing import median_milliseconds
from worker.db.database import Database, open_database, upgrade
from worker.operate.worklist import Place, WorklistFilter, worklist_page
from worker.settings.connection_url import parse_database_url


def fill(database: Database, studies: int) -> None:
    """Draw so many studies, the last one on 2026-03-09."""
    words = Path(__file__).with_name("fill_sqlite.sql").read_text()
    for statement in words.format(studies=studies).split(";\n"):
        with database.write() as session:
            session.execute(text(statement))


def views(studies: int) -> Iterator[tuple[str, WorklistFilter, Place | None]]:
    """Yield what is asked for, in words and as a query."""
    late = datetime(2026, 3, 9, tzinfo=UTC)
    yield "newest", WorklistFilter(), None
    yield "far down", WorklistFilter(), Place(0, studies // 20)
    yield "positive first", WorklistFilter(positive_first=True), None
    yield "positive first, after the positive ones", WorklistFilter(positive_first=True), Place(2, studies)
    yield "present, far down", WorklistFilter(outcome="present"), Place(0, studies // 20)
    yield "failed (1 in 10,007)", WorklistFilter(outcome="failed"), None
    yield "waiting (none: the whole list is looked through)", WorklistFilter(outcome="waiting"), None
    yield "text that names a patient", WorklistFilter(text="P-77"), None
    yield "a body part (1 in 9,973)", WorklistFilter(body_part="JAW"), None
    yield "another model", WorklistFilter(model="2025"), None
    yield "a day a month ago", WorklistFilter(since=late - timedelta(days=31), until=late - timedelta(days=30)), None


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100_000)
    studies = parser.parse_args().studies
    with tempfile.TemporaryDirectory() as folder:
        url = parse_database_url(f"sqlite:///{Path(folder)}/bench.sqlite3")
        upgrade(url)
        database = open_database(url)
        started = time.perf_counter()
        fill(database, studies)
        print(f"{studies:,} studies drawn in {time.perf_counter() - started:.0f} s")
        for words, wanted, place in views(studies):
            page = worklist_page(database, wanted, place)
            milliseconds = median_milliseconds(partial(worklist_page, database, wanted, place))
            end = "" if page.looked_at_all else f"  looked down to {page.onward}"
            print(f"{milliseconds:8.1f} ms  {len(page.rows):3d} rows  {words}{end}")
        database.close()


if __name__ == "__main__":
    main()
