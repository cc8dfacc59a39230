"""The life of a run: planned -> running -> finished; paused, resumed or stopped by a person.

Only the holder of its lease works on a run, and every page that it writes moves the cursor in the same transaction, on
condition that the lease is still its own. Killed at any point, a run goes on from its last page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Self

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.leases import FREE, Lease, is_free
from worker.db.tables import ReanalysisItem, ReanalysisRun
from worker.errors import LeaseLost
from worker.settings.night import Night
from worker.study.outcomes import shortened

STORE = "store"
ARCHIVE = "archive"
ACTIVE = ("planned", "running")
OPEN = (*ACTIVE, "paused")


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is to look through, the own store or the archive; dates are study dates, both included."""

    source: str = STORE
    since: date | None = None
    until: date | None = None
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    direction: str = "newest"
    maximum_studies: int | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """What a step must know of a run; read anew before each piece of work."""

    run: ReanalysisRun
    request: Request

    @property
    def run_id(self) -> int:
        """The run's key."""
        return self.run.id


class RunLease(Lease):
    """The right to work on a run: planned or running, as long as the token in the database is this one."""

    @classmethod
    def of(cls, run_id: int, seconds: float) -> Self:
        """Return a lease of a run that is not taken yet."""
        return cls(ReanalysisRun, run_id, f"re-analysis {run_id}", seconds)

    def take(self, database: Database, now: datetime) -> bool:
        """Take the run if nobody holds it; False where somebody does, or it is not to be worked on."""
        free = and_(ReanalysisRun.id == self.row_id, ReanalysisRun.state.in_(ACTIVE), is_free(ReanalysisRun, now))
        with database.write() as session:
            return changed_rows(session, update(ReanalysisRun).where(free).values(self.taken(now))) == 1

    def change(self, session: Session, **values: Any) -> None:
        """Write columns of the run; raises LeaseLost, and so undoes the transaction, where it is not ours any more."""
        statement = update(ReanalysisRun).where(self.holds).values(**values)
        if changed_rows(session, statement.execution_options(synchronize_session=False)) == 0:
            raise self._lost()

    def run(self, session: Session) -> ReanalysisRun:
        """Return the run's row, locked, to be changed; raises LeaseLost where it is not ours any more."""
        run = session.scalars(select(ReanalysisRun).where(self.holds).with_for_update()).one_or_none()
        if run is None:
            raise self._lost()
        return run

    @property
    def holds(self) -> ColumnElement[bool]:
        """The condition that the run is ours, and to be worked on."""
        return and_(self.is_ours, ReanalysisRun.state.in_(ACTIVE))

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"{self.what} was paused, stopped or given to somebody else")


def start(
    database: Database,
    request: Request,
    *,
    model_version: str,
    asked_by: str,
    now: datetime,
    night: Night | None = None,
) -> int | None:
    """Make a run, or give the night's start to the one of this source that is still open; return its key.

    Returns
    -------
    int or None
        None where this night has had its run already.
    """
    try:
        with database.write() as session:
            if night is not None and _has_run(session, request.source, night):
                return None
            known = night and _continue(session, request.source, model_version, night)
            if known:
                return known
            run = _new(request, model_version, asked_by, now)
            if night is not None:
                run.night_started_at, run.night_until = night.start, night.until
            return _insert(session, run)
    except IntegrityError:  # another scheduler was first
        return None


def _has_run(session: Session, source: str, night: Night) -> bool:
    same = select(ReanalysisRun.id).filter_by(source=source, night_started_at=night.start)
    return session.scalar(same) is not None


def _continue(session: Session, source: str, model_version: str, night: Night) -> int | None:
    """Let the open run of the nights before go on; a paused one stays paused, and this night does nothing else.

    None where there is none, or where another scheduler was first: the night then has its run, and takes no second.
    """
    waiting = select(ReanalysisRun.id).where(
        ReanalysisRun.source == source,
        ReanalysisRun.state.in_(OPEN),
        ReanalysisRun.night_started_at.is_not(None),
        ReanalysisRun.model_version == model_version,
    )
    run_id = session.scalar(waiting.order_by(ReanalysisRun.id.desc()).limit(1))
    # The condition is met anew once another scheduler's change is there: the night's limit is counted from 0 once.
    same = (ReanalysisRun.id == run_id, ReanalysisRun.state.in_(OPEN), ReanalysisRun.night_started_at != night.start)
    values = {"night_started_at": night.start, "night_until": night.until, "night_studies": 0}
    return run_id if changed_rows(session, update(ReanalysisRun).where(*same).values(**values)) else None


def _new(request: Request, model_version: str, asked_by: str, now: datetime) -> ReanalysisRun:
    return ReanalysisRun(
        source=request.source,
        since=as_da(request.since),
        until=as_da(request.until),
        modalities=",".join(request.modalities) or None,
        body_parts=",".join(request.body_parts) or None,
        direction=request.direction,
        maximum_studies=request.maximum_studies,
        model_version=model_version,
        asked_by=shortened(asked_by)[:128],
        created_at=now,
    )


def _insert(session: Session, run: ReanalysisRun) -> int:
    session.add(run)
    session.flush()
    record(
        session, "reanalysis_asked", run.created_at, run_id=run.id, source=run.source, model_version=run.model_version
    )
    return run.id


def load(database: Database, run_id: int) -> RunView:
    """Read a run."""
    with database.read() as session:
        return view_of(session.get_one(ReanalysisRun, run_id))


def view_of(run: ReanalysisRun) -> RunView:
    """Return a run with its request."""
    request = Request(
        run.source,
        as_date(run.since),
        as_date(run.until),
        _words(run.modalities),
        _words(run.body_parts),
        run.direction,
        run.maximum_studies,
    )
    return RunView(run, request)


def open_runs(database: Database, states: tuple[str, ...] = ACTIVE) -> tuple[int, ...]:
    """Return the runs in these states, oldest first."""
    with database.read() as session:
        wanted = select(ReanalysisRun.id).where(ReanalysisRun.state.in_(states)).order_by(ReanalysisRun.id)
        return tuple(session.scalars(wanted.limit(100)))


def change_state(database: Database, run_id: int, to: str, *, who: str, now: datetime) -> bool:
    """Pause, resume (`to` running) or stop a run; False where it is not in a state that allows it."""
    states = {"paused": ACTIVE, "running": ("paused",), "stopped": OPEN}[to]
    reason = None if to == "running" else f"{to} by {who}"
    values: dict[str, Any] = {"state": to, "reason": reason, **FREE}
    if to == "stopped":
        values["finished_at"] = now
    with database.write() as session:
        statement = update(ReanalysisRun).where(ReanalysisRun.id == run_id, ReanalysisRun.state.in_(states))
        changed = changed_rows(session, statement.values(**values))
        if changed:
            record(session, f"reanalysis_{to}", now, run_id=run_id, who=who)
            if to == "stopped":
                leave_items(session, run_id, f"{to} by {who}", now)
        return changed == 1


def leave_items(session: Session, run_id: int, reason: str, now: datetime) -> None:
    """End the items of a stopped run whose retrieval was not begun; `retrievals.abandon` ends the others."""
    left = update(ReanalysisItem).where(ReanalysisItem.run_id == run_id, ReanalysisItem.state == "found")
    values = {"state": "failed", "reason_code": "stopped", "reason": reason, "finished_at": now}
    changed_rows(session, left.values(**values).execution_options(synchronize_session=False))


def as_da(day: date | None) -> str | None:
    """Return a day as DICOM writes it (VR DA, PS3.5 6.2)."""
    return None if day is None else day.strftime("%Y%m%d")


def as_date(text: str | None) -> date | None:
    """Return the day of a DA value."""
    return None if text is None else datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
