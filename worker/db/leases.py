"""The right to work on a row for a while: the one lease of jobs, deliveries and runs of re-analysis.

Who takes a row writes a token and until when it holds, in one conditional UPDATE; every later step asks for the token.
Of several processes at once one is right, and a row whose holder died is free again when its time is over.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import ColumnElement, String, and_, or_, update
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.base import UtcDateTime
from worker.db.database import Database, changed_rows
from worker.errors import DatabaseError, LeaseLost

FREE: dict[str, object] = {"lease_token": None, "lease_until": None}
RENEWALS_PER_LEASE = 3

log = structlog.get_logger(__name__)


class Leased:
    """The columns of a table whose rows are worked on by one process at a time."""

    id: Any
    lease_token: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


def is_free(table: type[Leased], now: datetime) -> ColumnElement[bool]:
    """Return the condition that nobody holds a row, or no longer."""
    return or_(table.lease_until.is_(None), table.lease_until < now)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row, for as long as the token in the database is this one; `what` names the row."""

    table: type[Leased]
    row_id: int
    what: str
    seconds: float
    token: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def is_ours(self) -> ColumnElement[bool]:
        """The condition that the row is still ours."""
        return and_(self.table.id == self.row_id, self.table.lease_token == self.token)

    def taken(self, now: datetime) -> dict[str, object]:
        """Return what is written into the row when it is taken."""
        return {"lease_token": self.token, "lease_until": now + timedelta(seconds=self.seconds)}

    def renew(self, database: Database, now: datetime) -> bool:
        """Prolong it; False where the row is no longer ours."""
        with database.write() as session:
            return changed_rows(session, update(self.table).where(self.is_ours).values(self.taken(now))) == 1

    def release(self, database: Database) -> None:
        """Give the row back, as it is."""
        with database.write() as session:
            changed_rows(session, update(self.table).where(self.is_ours).values(FREE))


class Heartbeat:
    """A thread that renews a lease until it is left, or finds that the row is somebody else's.

    An image may take longer than a lease, and a decoder cannot be asked to stop for a moment. A database that does
    not answer for a while is no reason to stop: if the lease runs out meanwhile, the commit at the end finds out.
    """

    def __init__(self, database: Database, lease: Lease, clock: Callable[[], datetime]) -> None:
        self._database, self._lease, self._clock = database, lease, clock
        self._renewed_at = clock()
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {lease.what}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost once it is known to be somebody else's.

        A machine that slept has not renewed the lease, and does not know yet: it asks before it goes on.
        """
        if self._clock() - self._renewed_at > timedelta(seconds=self._lease.seconds):
            self.beat()
        if self._lost.is_set():
            raise LeaseLost(f"{self._lease.what} was given to somebody else")

    def beat(self) -> None:
        """Renew the lease once."""
        now = self._clock()
        try:
            ours = self._lease.renew(self._database, now)
        except DatabaseError as error:
            log.warning("lease_not_renewed", of=self._lease.what, reason=str(error))
            return
        if ours:
            self._renewed_at = now
        else:
            self._lost.set()

    def _run(self) -> None:
        while not self._lost.is_set() and not self._stopped.wait(self._lease.seconds / RENEWALS_PER_LEASE):
            self.beat()
