"""Keeping a claimed job while it is worked on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import structlog

from worker.db.database import Database
from worker.errors import DatabaseError, LeaseLost
from worker.study.jobs import Claim, renew

log = structlog.get_logger(__name__)

RENEWALS_PER_LEASE = 3


class Heartbeat:
    """A thread that renews a lease until it is left, or finds that the job is somebody else's.

    An image may take longer than a lease, and a decoder cannot be asked to stop for a moment. A database that does
    not answer for a while is no reason to stop: if the lease runs out meanwhile, the commit at the end finds out.
    """

    def __init__(self, database: Database, held: Claim, *, lease_seconds: float, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._held = held
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._renewed_at = clock()
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{held.job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost once the job is known to be somebody else's.

        A machine that slept has not renewed the lease, and does not know yet: it asks before it goes on.
        """
        if self._clock() - self._renewed_at > timedelta(seconds=self._lease_seconds):
            self.beat()
        if self._lost.is_set():
            raise LeaseLost(f"job {self._held.job_id} was given to somebody else")

    def beat(self) -> None:
        """Renew the lease once."""
        now = self._clock()
        try:
            ours = renew(self._database, self._held, lease_seconds=self._lease_seconds, now=now)
        except DatabaseError as error:
            log.warning("lease_not_renewed", job_id=self._held.job_id, reason=str(error))
            return
        if ours:
            self._renewed_at = now
        else:
            self._lost.set()

    def _run(self) -> None:
        while not self._lost.is_set() and not self._stopped.wait(self._lease_seconds / RENEWALS_PER_LEASE):
            self.beat()
