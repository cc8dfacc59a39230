"""The plan of a re-analysis over an archive: one window of study dates at a time, what is unanswered becomes items.

A window's items and the run's new place are written in one transaction. Nothing of the plan is in memory but one page;
a plan that is killed asks for its last window again, and what it found there already is on record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, exists, insert, or_, select
from sqlalchemy.orm import Session, aliased

from dicom_io.archive.archive import FoundPage
from dicom_io.errors import PeerBusy, PeerRefused
from worker.db.database import Database
from worker.db.open_items import item_is_open
from worker.db.tables import ANSWER, Job, ReanalysisItem, ReanalysisRun, Study
from worker.reanalysis.date_windows import DateWindowCursor, walk_of
from worker.reanalysis.parts import ArchiveParts
from worker.reanalysis.runs import RunLease, RunView
from worker.reanalysis.store import answered, plan_studies
from worker.storage.file_removal import lacks_files

STATEMENT_STUDIES = 1000
TOO_MANY = "the archive finds more studies in one minute than can be asked for at once: does it heed Study Time?"


@dataclass(frozen=True, slots=True)
class PagePartition:
    """The studies of a page that lack an answer: those that are here (their keys and UIDs), those to be retrieved."""

    here: dict[int, str]
    away: tuple[str, ...]


def plan_window(database: Database, held: RunLease, view: RunView, parts: ArchiveParts, now: datetime) -> int:
    """Ask for the run's next window and record what is unanswered in it; return how many questions that took.

    Raises
    ------
    worker.errors.LeaseLost
        When the run is not ours any more; nothing was written.
    dicom_io.errors.PeerError
        When the archive does not answer.
    """
    walk = walk_of(view.run, view.request)
    if walk.is_over:
        with database.write() as session:
            held.change(session, planned_at=now)
        return 0
    page = ask(walk, view, parts)
    with database.write() as session:
        if page is None or not page.complete:
            narrower = walk.narrowed()
            if narrower is None:
                raise PeerRefused(TOO_MANY)
            held.change(session, **narrower.columns())
        else:
            few = len(page.studies) < parts.rule.page // 4
            columns = _record(session, view, page, now) | walk.moved(widen=few).columns()
            held.change(session, **columns)
            if walk.moved(widen=few).is_over:
                held.change(session, planned_at=now)
    return 1 if page is None else page.questions


def ask(walk: DateWindowCursor, view: RunView, parts: ArchiveParts) -> FoundPage | None:
    """Ask for a window; None where it is too large for the archive, as far as can be told."""
    limit = parts.rule.page
    if view.request.body_parts:
        # A body part takes a question for each study: no more in a row than a minute allows.
        limit = min(limit, parts.rule.queries_a_minute)
    try:
        return parts.archive.find(walk.question(view.request), limit)
    except PeerBusy:
        # Many archives answer so when there are more matches than they are ready to send.
        if walk.narrowed() is None:
            raise
        return None


def sort_page(session: Session, uids: Sequence[str], model_version: str) -> PagePartition:
    """Find out which studies of a page lack an answer of the model, and where their images are.

    Studies that still arrive, or that an open run has taken up, are left out.
    """
    here: dict[int, str] = {}
    away: list[str] = []
    for some in _pieces(uids):
        taken = set(
            session.scalars(
                select(ReanalysisItem.study_instance_uid).where(
                    ReanalysisItem.study_instance_uid.in_(some), item_is_open()
                )
            )
        )
        known = {row.study_instance_uid: row for row in session.execute(_known(some, model_version))}
        for uid in some:
            row = known.get(uid)
            if uid in taken or (row is not None and (row.state == "receiving" or row.is_answered)):
                continue
            if row is None or row.lacks_files:
                away.append(uid)  # one that waits for a decision is asked for again: the archive may have corrected it
            elif not row.is_held:
                here[row.id] = uid
    return PagePartition(here, tuple(away))


def _known(uids: Sequence[str], model_version: str) -> Select[int, str, str, bool, bool, bool]:
    waiting = aliased(Job)
    is_answer = and_(waiting.study_id == Study.id, waiting.purpose == ANSWER)
    under_way = exists().where(is_answer, waiting.state.in_(("queued", "running")))
    return select(
        Study.id,
        Study.study_instance_uid,
        Study.state,
        or_(answered(model_version), under_way).label("is_answered"),
        lacks_files().label("lacks_files"),
        Study.held_reason.is_not(None).label("is_held"),
    ).where(Study.study_instance_uid.in_(uids))


def _record(session: Session, view: RunView, page: FoundPage, now: datetime) -> dict[str, object]:
    """Record what is unanswered of a page; return the run's columns that change."""
    run = view.run
    wanted = sort_page(session, [study.study_instance_uid for study in page.studies], run.model_version)
    here, away = _within(wanted, run)
    made = plan_studies(session, run, here, now)
    planned = run.planned + made + _new_items(session, run, away, now)
    reached = run.maximum_studies is not None and planned >= run.maximum_studies
    return {
        "state": "running",
        "started_at": run.started_at or now,
        "planned_at": now if reached else None,
        "found": run.found + len(page.studies),
        "planned": planned,
        "night_studies": ReanalysisRun.night_studies + made,
        "reason": None,
        "setbacks": 0,
        "retry_at": None,
    }


def _within(wanted: PagePartition, run: ReanalysisRun) -> tuple[tuple[int, ...], tuple[str, ...]]:
    if run.maximum_studies is None:
        return tuple(wanted.here), wanted.away
    room = max(run.maximum_studies - run.planned, 0)
    here = tuple(wanted.here)[:room]
    return here, wanted.away[: room - len(here)]


def _new_items(session: Session, run: ReanalysisRun, uids: Sequence[str], now: datetime) -> int:
    """Add items of the run to be retrieved; a study that is one already (an answer that came twice) is passed over."""
    made = 0
    for some in _pieces(uids):
        had = select(ReanalysisItem.study_instance_uid).where(
            ReanalysisItem.run_id == run.id, ReanalysisItem.study_instance_uid.in_(some)
        )
        known = set(session.scalars(had))
        new = [uid for uid in dict.fromkeys(some) if uid not in known]
        if new:
            # One statement: a driver may otherwise send a row a round trip.
            values = [{"run_id": run.id, "study_instance_uid": uid, "state": "found", "found_at": now} for uid in new]
            session.execute(insert(ReanalysisItem).values(values))
        made += len(new)
    return made


def _pieces(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), STATEMENT_STUDIES):
        yield values[start : start + STATEMENT_STUDIES]
