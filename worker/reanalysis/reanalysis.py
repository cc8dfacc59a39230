"""The archive seen again with the current model: a run is worked at in bounded steps, whenever nothing else needs us.

The scheduler asks for a step every few seconds. A step begins the night's run when it is night, does pieces of the open
runs for a few seconds, and ends what is done:

    planned -> running -> finished      by itself; pieces are a page of the plan, a query, a retrieval
    paused, stopped                     by a person (`bonewatch reanalyze pause`, `stop`)

Every piece ends in one transaction that also moves the run's cursor, so that a step may be killed anywhere. Two steps
at once find one lease. A study of the archive is retrieved first (`worker.reanalysis.archive_work`); its files go again
once it is answered. The jobs that a run makes go the way of all jobs, in the archive lane; no more of them wait there
than `waiting`, so that neither the queue nor the night's end has to deal with a million of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy import update

from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.leases import Heartbeat
from worker.db.tables import ReanalysisRun
from worker.errors import LeaseLost
from worker.reanalysis import items, retrievals, runs
from worker.reanalysis.archive_work import ArchiveWork
from worker.reanalysis.limits import (
    LANE_FULL,
    NIGHT_FULL,
    NO_ARCHIVE,
    OTHER_MODEL,
    ReanalysisCollaborators,
    lane_room,
    night_room,
    resting,
)
from worker.reanalysis.retrieved_copies import delete_answered
from worker.reanalysis.runs import ARCHIVE, RunLease, RunView
from worker.reanalysis.store import plan_page
from worker.settings.night import night_of

log = structlog.get_logger(__name__)


def step(parts: ReanalysisCollaborators) -> dict[str, int]:
    """Do a bounded piece of all that is open; return how many nights, studies and runs it was about.

    1. Begin the night's run, once a night.
    2. Let retrieved studies follow their jobs; give up the retrievals that a stopped run has left behind.
    3. Delete the files of retrieved studies that are answered.
    4. Work at the open runs, each under its lease.
    5. End the runs that have nothing open.
    """
    now, database, page = parts.clock(), parts.database, 10 * parts.rule.page
    version = parts.model_version()
    counts = {
        "nights_begun": _begin_night(parts, now),
        "studies_taken_up": items.take_up_retrieved(database, model_version=version, now=now, limit=page),
        "retrievals_abandoned": retrievals.abandon(database, now=now, limit=page),
        "copies_deleted": delete_answered(database, parts.store, now=now, limit=page),
        "pieces": sum(_work(parts, run_id) for run_id in runs.open_runs(database)),
        "runs_finished": items.finish_runs(database, now=now),
    }
    if any(counts.values()):
        log.info("reanalysis", **{name: count for name, count in counts.items() if count})
    return counts


def _begin_night(parts: ReanalysisCollaborators, now: datetime) -> int:
    rule = parts.rule
    night = None if rule.night is None else night_of(rule.night, now)
    if night is None:
        return 0
    version = parts.model_version()
    made = [
        runs.start(parts.database, request, model_version=version, asked_by="the night", now=now, night=night)
        for request in rule.night_requests
    ]
    return len(made) - made.count(None)


def _work(parts: ReanalysisCollaborators, run_id: int) -> int:
    """Do pieces of one run until its share of the step is over or it has to wait; return how many."""
    lease = RunLease.of(run_id, parts.rule.lease_seconds)
    if not lease.take(parts.database, parts.clock()):
        return 0
    done, end = 0, time.monotonic() + parts.rule.seconds
    # A retrieval may take longer than a lease.
    kept = Heartbeat(parts.database, lease, parts.clock)
    try:
        with kept, _pieces(parts, lease) as piece:
            while piece():
                done += 1
                if time.monotonic() > end:
                    break
    except LeaseLost as error:
        log.info("reanalysis_interrupted", reason=str(error))
    finally:
        lease.release(parts.database)
    return done


@contextmanager
def _pieces(parts: ReanalysisCollaborators, lease: RunLease) -> Iterator[Callable[[], bool]]:
    """Give what does a piece of the run; leaving waits for the retrievals that are under way."""
    if runs.load(parts.database, lease.row_id).request.source != ARCHIVE:
        yield lambda: _piece(parts, lease, partial(_plan_store, parts, lease))
    elif parts.archive is None:
        yield lambda: _piece(parts, lease, lambda *_: NO_ARCHIVE)
    else:
        with ArchiveWork(parts, parts.archive, lease) as work:
            yield lambda: _piece(parts, lease, work.piece)


def _piece(parts: ReanalysisCollaborators, lease: RunLease, do: Callable[[RunView, datetime], bool | str]) -> bool:
    """Do one piece; False where nothing is left to do, or the run has to wait and `do` says why."""
    view, now = runs.load(parts.database, lease.row_id), parts.clock()
    if view.run.model_version != parts.model_version():
        _end(parts.database, lease, OTHER_MODEL, now)
        return False
    goes_on = do(view, now)
    if isinstance(goes_on, str):
        _note(parts.database, lease, view, goes_on)
        return False
    return goes_on


def _plan_store(parts: ReanalysisCollaborators, lease: RunLease, view: RunView, now: datetime) -> bool | str:
    """Plan a page of the own store; False at its end, words where the run has to wait."""
    run = view.run
    if run.planned_at is not None:
        return False
    if run.maximum_studies is not None and run.planned >= run.maximum_studies:
        with parts.database.write() as session:
            lease.change(session, planned_at=now, reason=None)
        return False
    in_lane, in_night = lane_room(parts), night_room(parts, view)
    reason = resting(parts, view, now) or (NIGHT_FULL if in_night == 0 else LANE_FULL if in_lane <= 0 else None)
    if reason is not None:
        return reason
    rooms = [parts.rule.page, in_lane]
    rooms += [] if in_night is None else [in_night]
    rooms += [] if run.maximum_studies is None else [run.maximum_studies - run.planned]
    return not plan_page(parts.database, lease, view, size=min(rooms), now=now).at_end


def _note(database: Database, lease: RunLease, view: RunView, reason: str) -> None:
    if view.run.reason != reason:
        with database.write() as session:
            lease.change(session, reason=reason)


def _end(database: Database, lease: RunLease, reason: str, now: datetime) -> None:
    with database.write() as session:
        ended = update(ReanalysisRun).where(lease.holds)
        if changed_rows(session, ended.values(state="stopped", reason=reason, finished_at=now)):
            record(session, "reanalysis_stopped", now, run_id=lease.row_id, reason=reason)
            runs.leave_items(session, lease.row_id, reason, now)
