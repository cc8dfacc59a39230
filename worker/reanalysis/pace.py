"""How often an archive may be asked: requests of one kind are so many seconds apart, whichever process makes them."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update

from worker.db.database import Database, changed_rows, insert_new
from worker.db.tables import ArchivePace

QUERY = "query"
RETRIEVAL = "retrieval"


def take_turn(database: Database, kind: str, *, a_minute: int, now: datetime) -> float:
    """Take the next turn to make a request if it has come; return the seconds until then, 0 where it was taken."""
    of_kind = ArchivePace.kind == kind
    with database.write() as session:
        session.execute(insert_new(session, ArchivePace, "kind", {"kind": kind, "next_at": now}))
        turn = update(ArchivePace).where(of_kind, ArchivePace.next_at <= now).values(next_at=now + _apart(a_minute))
        if changed_rows(session, turn):
            return 0.0
        return (session.scalars(select(ArchivePace.next_at).where(of_kind)).one() - now).total_seconds()


def charge(database: Database, kind: str, requests: int, *, a_minute: int, now: datetime) -> None:
    """Let the next turn wait for requests that were made beyond the one that had its turn."""
    if requests > 0:
        with database.write() as session:
            pace = session.get(ArchivePace, kind, with_for_update=True)
            if pace is not None:
                pace.next_at = max(pace.next_at, now) + requests * _apart(a_minute)


def _apart(a_minute: int) -> timedelta:
    return timedelta(minutes=1) / a_minute
