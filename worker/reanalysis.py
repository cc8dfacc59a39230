"""The archive seen again with the current model: a run is worked at in bounded steps, whenever nothing else needs us.

The scheduler asks for a step every few seconds. A step begins the night's run when it is night, does pieces of the open
runs for a few seconds, and ends what is done:

    planned -> running -> finished      by itself; pieces are a page of the plan, a query, a retrieval
    paused, stopped                     by a person (`bonewatch reanalyze --pause`, `--stop`)

Every piece ends in one transaction that also moves the run's cursor, so that a step may be killed anywhere. Two steps
at once find one lease. The jobs that a run makes go the way of all jobs, in the archive lane; no more of them wait
there than `waiting`, so that neither the queue nor the night's end has to deal with a million of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from worker import reanalysis_items as items
from worker import reanalysis_runs as runs
from worker.database import Database
from worker.errors import DatabaseError, LeaseLost
from worker.events import record
from worker.jobs import changed_rows
from worker.night import NightRule, night_of
from worker.reanalysis_runs import Request, RunLease, RunView
from worker.reanalysis_store import plan_page
from worker.tables import Job, ReanalysisRun

log = structlog.get_logger(__name__)

NIGHT_OVER = "the night is over: goes on at the next"
NIGHT_FULL = "the studies of this night are done: goes on at the next"
LIVE_FIRST = "waits: more of today's studies are queued than BONEWATCH_REANALYSIS_LIVE_LIMIT"
LANE_FULL = "waits: as many studies are queued as BONEWATCH_REANALYSIS_WAITING"
OTHER_MODEL = "another model was installed: begin a new run"


@dataclass(frozen=True, slots=True)
class ReanalysisRule:
    """What the past may cost: see `worker.settings_reanalysis`. A step takes `seconds`, a page has `page` studies."""

    night: NightRule | None = None
    night_request: Request = field(default_factory=Request)
    studies_a_night: int | None = None
    live_limit: int = 20
    waiting: int = 200
    lease_seconds: float = 60.0
    page: int = 200
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class ReanalysisCollaborators:
    """What a step works with; `model_version` reads the version of the bundle that is installed now."""

    database: Database
    model_version: Callable[[], str]
    rule: ReanalysisRule
    clock: Callable[[], datetime]


def step(parts: ReanalysisCollaborators) -> dict[str, int]:
    """Do a bounded piece of all that is open; return how many nights, studies and runs it was about.

    1. Begin the night's run, once a night.
    2. End the studies whose analysis has ended.
    3. Work at the open runs, each under its lease.
    4. End the runs that have nothing open.
    """
    now = parts.clock()
    counts = {
        "nights_begun": _begin_night(parts, now),
        "studies_ended": items.settle(parts.database, now=now, limit=10 * parts.rule.page),
        "pieces": sum(_work(parts, run_id) for run_id in runs.open_runs(parts.database)),
        "runs_finished": items.finish_runs(parts.database, now=now),
    }
    if any(counts.values()):
        log.info("reanalysis", **{name: count for name, count in counts.items() if count})
    return counts


def _begin_night(parts: ReanalysisCollaborators, now: datetime) -> int:
    rule = parts.rule
    night = None if rule.night is None else night_of(rule.night, now)
    if night is None:
        return 0
    made = runs.start(
        parts.database,
        rule.night_request,
        model_version=parts.model_version(),
        asked_by="the night",
        now=now,
        night=night,
    )
    return int(made is not None)


def _work(parts: ReanalysisCollaborators, run_id: int) -> int:
    """Do pieces of one run until its share of the step is over or it has to wait; return how many."""
    lease = RunLease(parts.database, run_id, parts.rule.lease_seconds, parts.clock)
    if not lease.take():
        return 0
    done, end = 0, time.monotonic() + parts.rule.seconds
    try:
        with _kept(lease):
            while _piece(parts, lease):
                done += 1
                if time.monotonic() > end:
                    break
    except LeaseLost as error:
        log.info("re-analysis interrupted", reason=str(error))
    return done


@contextmanager
def _kept(lease: RunLease) -> Iterator[None]:
    """Renew the lease in a thread while a piece runs: a retrieval may take longer than a lease."""
    stopped = threading.Event()

    def renew() -> None:
        while not stopped.wait(lease.seconds / 3):
            try:
                if not lease.renew():
                    return
            except DatabaseError as error:
                log.warning("the lease could not be renewed", run_id=lease.run_id, reason=str(error))

    thread = threading.Thread(target=renew, name=f"reanalysis-{lease.run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        lease.release()


def _piece(parts: ReanalysisCollaborators, lease: RunLease) -> bool:
    """Do one piece; False where the run has to wait, or nothing is left to plan."""
    view, now = runs.load(parts.database, lease.run_id), parts.clock()
    if view.run.model_version != parts.model_version():
        _end(parts.database, lease, OTHER_MODEL, now)
        return False
    if view.run.planned_at is not None:
        return False
    room, reason = _room(parts, view, now)
    if reason is not None:
        _note(parts.database, lease, view, reason)
        return False
    if room <= 0:
        with parts.database.write() as session:
            lease.change(session, planned_at=now, reason=None)
        return False
    return not plan_page(parts.database, lease, view, size=room, now=now).at_end


def _room(parts: ReanalysisCollaborators, view: RunView, now: datetime) -> tuple[int, str | None]:
    """Return how many studies may be planned now, or why none may; 0 without a reason: the run has its maximum."""
    rule, run = parts.rule, view.run
    rooms = [rule.page]
    if run.night_until is not None:
        if now >= run.night_until:
            return 0, NIGHT_OVER
        if rule.studies_a_night is not None:
            rooms.append(rule.studies_a_night - run.night_studies)
            if rooms[-1] <= 0:
                return 0, NIGHT_FULL
    if run.maximum_studies is not None:
        rooms.append(run.maximum_studies - run.planned)
        if rooms[-1] <= 0:
            return 0, None
    with parts.database.read() as session:
        if _queued(session, "live", rule.live_limit + 1) > rule.live_limit:
            return 0, LIVE_FIRST
        rooms.append(rule.waiting - _queued(session, "archive", rule.waiting))
    return (0, LANE_FULL) if rooms[-1] <= 0 else (min(rooms), None)


def _queued(session: Session, lane: str, most: int) -> int:
    """Return how many jobs wait in a lane, counted no further than `most`."""
    waiting = select(Job.id).where(Job.state == "queued", Job.lane == lane).limit(most)
    return session.scalar(select(func.count()).select_from(waiting.subquery())) or 0


def _note(database: Database, lease: RunLease, view: RunView, reason: str) -> None:
    if view.run.reason != reason:
        with database.write() as session:
            lease.change(session, reason=reason)


def _end(database: Database, lease: RunLease, reason: str, now: datetime) -> None:
    with database.write() as session:
        ended = update(ReanalysisRun).where(lease.holds(), ReanalysisRun.state.in_(runs.ACTIVE))
        if changed_rows(session, ended.values(state="stopped", reason=reason, finished_at=now)):
            record(session, "reanalysis_stopped", now, run_id=lease.run_id, reason=reason)
