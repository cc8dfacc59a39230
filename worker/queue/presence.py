"""Which schedulers live: each says so in SQL every few seconds, for `bonewatch status` and the page.

All of them schedule. Whatever a sweep or a step of re-analysis does is claimed in SQL piece by piece, so that each
thing is done once however many ask for it, and nobody has to take over from one that ended.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from worker.db.database import Database, changed_rows
from worker.db.tables import Scheduler, utc_now
from worker.errors import DatabaseError

log = structlog.get_logger(__name__)

BEAT_SECONDS = 5.0
PRESENT_FOR = timedelta(seconds=4 * BEAT_SECONDS)
FORGOTTEN_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SchedulerSeen:
    """A scheduler that gave a sign of life just now; `name` is its machine and process id."""

    name: str
    seen_at: datetime


def present(database: Database) -> tuple[SchedulerSeen, ...]:
    """Return the schedulers that live, the oldest first."""
    with database.read() as session:
        lately = Scheduler.seen_at > _database_now(session) - PRESENT_FOR
        rows = session.scalars(
            select(Scheduler).where(lately).order_by(Scheduler.started_at, Scheduler.name).limit(100)
        )
        return tuple(SchedulerSeen(each.name, each.seen_at) for each in rows)


class Presence:
    """The sign of life of the scheduler that this process is, given in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._token = str(uuid.uuid4())
        self._name = f"{socket.gethostname()}:{os.getpid()}"[:255]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler-presence", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and be gone from the list at once."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write(gone=True)

    def note(self) -> None:
        """Give a sign of life once."""
        self._write(gone=False)

    def _write(self, *, gone: bool) -> None:
        mine = Scheduler.token == self._token
        try:
            with self._database.write() as session:
                now = _database_now(session)
                if gone:
                    session.execute(delete(Scheduler).where(mine))
                elif not changed_rows(session, update(Scheduler).where(mine).values(seen_at=now)):
                    session.execute(delete(Scheduler).where(Scheduler.seen_at < now - FORGOTTEN_AFTER))
                    row = {"token": self._token, "name": self._name, "started_at": now, "seen_at": now}
                    session.execute(insert(Scheduler).values(row))
        except (DatabaseError, SQLAlchemyError) as error:
            log.warning("scheduler_not_noted", error=type(error).__name__)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.note()
            self._stopped.wait(BEAT_SECONDS)


def _database_now(session: Session) -> datetime:
    """Return the time by the clock that all machines share: PostgreSQL's own, or for SQLite this machine's."""
    if session.get_bind().dialect.name != "postgresql":
        return utc_now()
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)
