"""Keeping what was claimed, a job or a run of re-analysis, while it is worked on."""

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
    """A thread that renews a lease until it is left, or finds that what it was for is somebody else's.

    An image may take longer than a lease, and a decoder cannot be asked to stop for a moment. A database that does
    not answer for a while is no reason to stop: if the lease runs out meanwhile, the commit at the end finds out.

    Parameters
    ----------
    renew : callable
        Prolongs the lease; False where it is somebody else's.
    what : str
        What is claimed, as "job 7".
    lease_seconds : float
        How long it is claimed for each time.
    clock : callable
        The present moment.
    """

    def __init__(
        self, renew: Callable[[], bool], what: str, *, lease_seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self._renew = renew
        self._what = what
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._renewed_at = clock()
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {what}", daemon=True)

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
        if self._clock() - self._renewed_at > timedelta(seconds=self._lease_seconds):
            self.beat()
        if self._lost.is_set():
            raise LeaseLost(f"{self._what} was given to somebody else")

    def beat(self) -> None:
        """Renew the lease once."""
        now = self._clock()
        try:
            ours = self._renew()
        except DatabaseError as error:
            log.warning("lease_not_renewed", of=self._what, reason=str(error))
            return
        if ours:
            self._renewed_at = now
        else:
            self._lost.set()

    def _run(self) -> None:
        while not self._lost.is_set() and not self._stopped.wait(self._lease_seconds / RENEWALS_PER_LEASE):
            self.beat()


def keep_job(database: Database, held: Claim, *, lease_seconds: float, clock: Callable[[], datetime]) -> Heartbeat:
    """Return what renews the claim of a job, not started."""
    return Heartbeat(
        lambda: renew(database, held, lease_seconds=lease_seconds, now=clock()),
        f"job {held.job_id}",
        lease_seconds=lease_seconds,
        clock=clock,
    )
