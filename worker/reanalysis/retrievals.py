"""One study's retrieval from the archive: begun and ended by a transaction each, on condition that the run is ours.

    found -> retrieving     before the archive is asked; the study is not closed meanwhile (worker.study.studies)
    retrieving -> retrieved all of it came; the sweep closes the study and gives it its job
    retrieving -> failed    it has gone, or several attempts went wrong; what came of it is deleted unanalysed

Killed in between, an item stays `retrieving`, and the next holder of the run's lease tries again: what had come is not
doubled. Every ended attempt tells the run, too: after several that went wrong, or where the archive as a whole does not
answer, the run waits before it asks for the next study.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.reanalysis_tables import TO_RETRIEVE
from worker.db.tables import LIVE_SOURCES, Instance, ReanalysisItem, ReanalysisRun, Study
from worker.reanalysis.parts import MOST_ATTEMPTS
from worker.reanalysis.runs import RunLease
from worker.storage.file_removal import RETRIEVED_COPY, ended, has_files
from worker.study.backoff import delay_seconds
from worker.study.outcomes import shortened

LEFT_BEHIND = timedelta(minutes=15)
PATIENCE = 3
"""So many attempts in a row may go wrong before the run waits."""
INTERRUPTED = f"given up after {MOST_ATTEMPTS} attempts, the last of which was interrupted"


@dataclass(frozen=True, slots=True)
class RetrievalFailure:
    """Why an attempt went wrong: a word for SQL, and words. `final` where trying again cannot help.

    `of_archive` where the archive as a whole does not answer: the study is not to blame, its attempt is not counted.
    """

    code: str
    reason: str
    final: bool = False
    of_archive: bool = False


def next_due(database: Database, run_id: int, under_way: frozenset[int], now: datetime) -> int | None:
    """Return the run's next item to be retrieved, those under way left out."""
    due = (
        select(ReanalysisItem.id)
        .where(ReanalysisItem.run_id == run_id, ReanalysisItem.state.in_(TO_RETRIEVE))
        .where(or_(ReanalysisItem.next_attempt_at.is_(None), ReanalysisItem.next_attempt_at <= now))
        .where(ReanalysisItem.id.not_in(under_way))
        .order_by(ReanalysisItem.id)
        .limit(1)
    )
    with database.read() as session:
        return session.scalar(due)


def begin(database: Database, held: RunLease, item_id: int, source: str, now: datetime) -> str | None:
    """Begin an attempt; return the study's UID, or None where there is nothing to do any more.

    A study of which no file is left here counts as retrieved from now on, also if it was pushed long ago and purged.
    """
    with database.write() as session:
        study = _lock_study(session, item_id)
        run = held.run(session)
        item = _lock_item(session, item_id)
        if item is None:
            return None
        if item.attempts >= MOST_ATTEMPTS:
            _give_up(session, item, study, RetrievalFailure("interrupted", INTERRUPTED), now)
            return None
        if item.attempts == 0:
            run.night_studies += 1
        item.state, item.retrieval_at, item.next_attempt_at, item.copy_here = "retrieving", now, None, True
        item.attempts += 1
        if study is not None and study.source in LIVE_SOURCES and not _has_files(session, study):
            study.source = source
        return item.study_instance_uid


def arrived(database: Database, held: RunLease, item_id: int) -> None:
    """End an attempt that brought the whole study."""
    with database.write() as session:
        run = held.run(session)
        item = _lock_item(session, item_id)
        if item is not None:
            item.state, item.reason_code, item.reason = "retrieved", None, None
        _recovered(run)


def went_wrong(database: Database, held: RunLease, item_id: int, failure: RetrievalFailure, now: datetime) -> None:
    """End an attempt that went wrong: try again later, or give the study up."""
    with database.write() as session:
        study = _lock_study(session, item_id)
        run = held.run(session)
        item = _lock_item(session, item_id)
        if failure.final:
            _recovered(run)  # the archive did answer
        else:
            note_setback(run, failure.reason, now, patience=0 if failure.of_archive else PATIENCE)
        if item is None:
            return
        if failure.of_archive:
            item.attempts -= 1
        if failure.final or item.attempts >= MOST_ATTEMPTS:
            _give_up(session, item, study, failure, now)
        else:
            item.reason_code, item.reason = failure.code, shortened(failure.reason)
            item.next_attempt_at = now + timedelta(seconds=delay_seconds(max(item.attempts, 1)))


def abandon(database: Database, *, now: datetime, limit: int) -> int:
    """Give up the retrievals that a stopped run has left behind; return how many.

    One that is under way when its run is stopped may come to its end first.
    """
    left = (
        select(ReanalysisItem.id, ReanalysisRun.reason)
        .join(ReanalysisRun, ReanalysisRun.id == ReanalysisItem.run_id)
        .where(ReanalysisItem.state == "retrieving", ReanalysisRun.state == "stopped")
        .where(ReanalysisItem.retrieval_at < now - LEFT_BEHIND)
        .limit(limit)
    )
    with database.read() as session:
        found = session.execute(left).all()
    for item_id, reason in found:
        with database.write() as session:
            study, item = _lock_study(session, item_id), _lock_item(session, item_id)
            if item is not None:
                _give_up(session, item, study, RetrievalFailure("stopped", reason or "the run was stopped"), now)
    return len(found)


def note_setback(run: ReanalysisRun, reason: str, now: datetime, *, patience: int = 0) -> None:
    """Count a request that went wrong; beyond `patience` in a row the run waits, longer each time."""
    run.setbacks += 1
    if run.setbacks > patience:
        run.reason = shortened(reason)
        run.retry_at = now + timedelta(seconds=delay_seconds(run.setbacks - patience))


def _recovered(run: ReanalysisRun) -> None:
    if run.setbacks:
        run.setbacks, run.retry_at, run.reason = 0, None, None


def _give_up(
    session: Session, item: ReanalysisItem, study: Study | None, failure: RetrievalFailure, now: datetime
) -> None:
    item.state, item.reason_code, item.reason = "failed", failure.code, shortened(failure.reason)
    item.finished_at, item.next_attempt_at = now, None
    ours = study is not None and study.source not in LIVE_SOURCES
    record(
        session, "retrieval_failed", now, study_id=None if study is None else study.id, run_id=item.run_id,
        code=failure.code, reason=item.reason,
    )  # fmt: skip
    if study is not None and ours:
        _drop(session, study, now)


def _drop(session: Session, study: Study, now: datetime) -> None:
    """Leave a study that did not come whole without an analysis: the missing image may be the one with the fracture."""
    if study.state == "receiving":
        study.state, study.completed_at = "complete", now
    session.flush()
    unneeded = session.scalar(select(Study.id).where(Study.id == study.id, ended())) is not None
    if unneeded:
        unmarked = Instance.file_deleted_reason.is_(None)
        marks = update(Instance).where(Instance.study_id == study.id, unmarked)
        changed_rows(session, marks.values(file_deleted_reason=RETRIEVED_COPY))


def _lock_study(session: Session, item_id: int) -> Study | None:
    # The study before the run and the item, as everybody who locks more than one of them.
    of_item = select(ReanalysisItem.study_instance_uid).where(ReanalysisItem.id == item_id).scalar_subquery()
    return session.scalars(select(Study).where(Study.study_instance_uid == of_item).with_for_update()).one_or_none()


def _lock_item(session: Session, item_id: int) -> ReanalysisItem | None:
    wanted = select(ReanalysisItem).where(ReanalysisItem.id == item_id, ReanalysisItem.state.in_(TO_RETRIEVE))
    return session.scalars(wanted.with_for_update()).one_or_none()


def _has_files(session: Session, study: Study) -> bool:
    return session.scalar(select(Study.id).where(Study.id == study.id, has_files())) is not None
