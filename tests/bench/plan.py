"""The plan of a re-analysis of a million studies in PostgreSQL: how long it takes, and how much memory.

    python -m tests.bench.plan                      # 1,000,000 studies, in a cluster of its own that goes afterwards
    python -m tests.bench.plan --studies 20000

Every study lacks the answer of the run's model. The limits of a night are lifted, so that what is measured is the plan.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from tests.bench.million import cluster, fill
from tests.fakes_worker import FakeStore
from worker.db.database import Database, open_database, upgrade
from worker.db.tables import utc_now
from worker.reanalysis.estimate import estimate_store
from worker.reanalysis.limits import ReanalysisCollaborators, ReanalysisRule
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import Request, start
from worker.settings.connection_url import parse_database_url

MODEL = "2026-09-01-third+fedcba98"
NO_LIMIT = 10**9


def peak_mib() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def planned(database: Database) -> Iterator[int]:
    """Take step after step; yield how many studies have a job by then."""
    # What the fill left waiting is nobody's here: a study with a waiting job is planned all the same.
    rule = ReanalysisRule(live_limit=NO_LIMIT, waiting=NO_LIMIT, page=1000, seconds=5.0)
    parts = ReanalysisCollaborators(database, lambda: MODEL, rule, utc_now, FakeStore(Path()))
    run_id = start(database, Request(), model_version=MODEL, asked_by="bench", now=utc_now())
    while True:
        step(parts)
        with database.read() as session:
            row = session.execute(
                text("SELECT planned, planned_at FROM reanalysis_runs WHERE id = :run"), {"run": run_id}
            ).one()
        yield row.planned
        if row.planned_at is not None:
            return


def main() -> None:
    """Fill, plan, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1_000_000)
    wanted = parser.parse_args()
    with cluster(None) as address:
        url = parse_database_url(address)
        upgrade(url)
        database = open_database(url, timeout_seconds=1800)
        try:
            fill(database, wanted.studies, say=lambda _: None)
            started = time.perf_counter()
            found = estimate_store(database, Request(), model_version=MODEL, processes=1)
            print(f"dry run: {found.studies:,} studies counted in {time.perf_counter() - started:.1f} s", flush=True)
            before, started, done = peak_mib(), time.perf_counter(), 0
            for done in planned(database):
                print(f"  {done:9,} planned, {time.perf_counter() - started:6.0f} s, {peak_mib():.0f} MiB", flush=True)
            print(
                f"{done:,} studies planned in {time.perf_counter() - started:.0f} s; memory at its peak "
                f"{peak_mib():.0f} MiB, {before:.0f} MiB before the plan"
            )
        finally:
            database.close()


if __name__ == "__main__":
    main()
