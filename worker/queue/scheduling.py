"""Which scheduler's clock runs, where several machines have one: one does, the others stand by.

Only the clock has to run once: it asks for sweeps and for steps of re-analysis. What it asks for is claimed in SQL
piece by piece, so schedulers that stand by serve the control queue like the first.

The right to run it is a row with a lease, in times of the database's clock, so that the machines' own may differ. The
holder counts its lease by its own monotonic clock from *before* it asked, and stops a tenth early: it has stopped
before anybody else may begin, even where the database no longer answers it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from worker.db.database import Database
from worker.db.events import record
from worker.db.tables import Scheduler, SchedulerLease, utc_now
from worker.errors import DatabaseError
from worker.study.jobs import changed_rows

log = structlog.get_logger(__name__)

NAME = "schedule"
RENEWALS_PER_LEASE = 3
RENEWAL_SECONDS = 5.0
SAFETY = 0.9
FORGOTTEN_AFTER = timedelta(hours=1)
PRESENT_FOR = timedelta(seconds=4 * RENEWAL_SECONDS)


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that can schedule."""

    token: str = field(default_factory=lambda: str(uuid.uuid4()))
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}"[:255])


@dataclass(frozen=True, slots=True)
class SchedulerSeen:
    """A scheduler that gave a sign of life just now: its clock runs, or it stands by."""

    name: str
    schedules: bool
    seen_at: datetime


def take(database: Database, me: Identity, lease_seconds: float) -> bool:
    """Renew the lease, or take it where it is free; say whether it is ours.

    Raises
    ------
    worker.errors.DatabaseError
        When the database does not answer.
    """
    try:
        with database.write() as session:
            now = _database_now(session)
            _note_seen(session, me, now)
            return _taken(session, me, now, now + timedelta(seconds=lease_seconds))
    except IntegrityError:
        return False  # another one made the first row between our look and our insert


def give_up(database: Database, me: Identity) -> None:
    """Free the lease if it is ours, so that who stands by need not wait for its end."""
    with database.write() as session:
        session.execute(delete(SchedulerLease).where(SchedulerLease.token == me.token))
        session.execute(delete(Scheduler).where(Scheduler.token == me.token))


def present(database: Database) -> tuple[SchedulerSeen, ...]:
    """Return the schedulers that live, the one whose clock runs first."""
    with database.read() as session:
        now = _database_now(session)
        holder = session.scalar(select(SchedulerLease.token).where(SchedulerLease.lease_until > now))
        rows = session.scalars(
            select(Scheduler).where(Scheduler.seen_at > now - PRESENT_FOR).order_by(Scheduler.started_at).limit(100)
        )
        found = [SchedulerSeen(each.name, each.token == holder, each.seen_at) for each in rows]
    return tuple(sorted(found, key=lambda each: not each.schedules))


class Turn:
    """Keeps the lease in a thread. `held` says, at any moment and without asking anybody, whether it is ours.

    Parameters
    ----------
    database : worker.db.database.Database
        Opened in this process.
    lease_seconds : float
        How long one who stands by waits for a holder that is silent.
    me : Identity
        This process.
    monotonic : callable
        This machine's clock, in seconds.
    """

    def __init__(
        self,
        database: Database,
        lease_seconds: float,
        me: Identity | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._me = me or Identity()
        self._monotonic = monotonic
        self._valid_until = float("-inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler-lease", daemon=True)

    def start(self) -> None:
        """Begin to ask for the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and free the lease."""
        self._stopped.set()
        self._valid_until = float("-inf")
        if self._thread.is_alive():
            self._thread.join()
        try:
            give_up(self._database, self._me)
        except (DatabaseError, SQLAlchemyError) as error:
            log.warning("scheduler_lease_not_released", error=type(error).__name__)

    def held(self) -> bool:
        """Say whether this process's clock may run now."""
        return not self._stopped.is_set() and self._monotonic() < self._valid_until

    def ask(self) -> None:
        """Ask for the lease once."""
        asked, was_held = self._monotonic(), self.held()
        try:
            ours = take(self._database, self._me, self._lease_seconds)
        except (DatabaseError, SQLAlchemyError) as error:
            log.warning("scheduler_lease_not_renewed", error=type(error).__name__)
            return
        self._valid_until = asked + SAFETY * self._lease_seconds if ours else float("-inf")
        if ours is not was_held:
            log.info("scheduler_active" if ours else "scheduler_standby", name=self._me.name)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.ask()
            self._stopped.wait(min(self._lease_seconds / RENEWALS_PER_LEASE, RENEWAL_SECONDS))


def _database_now(session: Session) -> datetime:
    """Return the time by the clock that all machines share: PostgreSQL's own, or for SQLite this machine's."""
    if session.get_bind().dialect.name != "postgresql":
        return utc_now()
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)


def _taken(session: Session, me: Identity, now: datetime, until: datetime) -> bool:
    lease = session.execute(select(SchedulerLease).where(SchedulerLease.name == NAME)).scalar_one_or_none()
    if lease is None:
        session.execute(insert(SchedulerLease).values(name=NAME, token=me.token, acquired_at=now, lease_until=until))
        record(session, "scheduler", now, name=me.name)
        return True
    unchanged = (SchedulerLease.token == lease.token, SchedulerLease.lease_until == lease.lease_until)
    if lease.token == me.token:
        return bool(changed_rows(session, update(SchedulerLease).where(*unchanged).values(lease_until=until)))
    if now < lease.lease_until:
        return False
    values = {"token": me.token, "acquired_at": now, "lease_until": until}
    if not changed_rows(session, update(SchedulerLease).where(*unchanged).values(values)):
        return False
    record(session, "scheduler", now, name=me.name)
    return True


def _note_seen(session: Session, me: Identity, now: datetime) -> None:
    if changed_rows(session, update(Scheduler).where(Scheduler.token == me.token).values(seen_at=now)):
        return
    session.execute(delete(Scheduler).where(Scheduler.seen_at < now - FORGOTTEN_AFTER))
    session.execute(insert(Scheduler).values(token=me.token, name=me.name, started_at=now, seen_at=now))
