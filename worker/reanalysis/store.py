"""The own store as an archive: its studies without an answer of the current model, page by page in order of study date.

A page begins behind the run's cursor and is written in one transaction with the cursor's new place. Nothing of the
plan is in memory but one page, and a plan that is killed goes on behind the last page that was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import JSON, ColumnElement, Select, and_, exists, func, insert, literal, select, tuple_
from sqlalchemy.orm import Session, aliased

from worker.db.database import Database
from worker.db.tables import ANSWER, IDENTITY, Event, Instance, Job, ReanalysisItem, ReanalysisRun, Study, UtcDateTime
from worker.reanalysis.runs import Request, RunLease, RunView, as_da
from worker.storage.file_removal import lacks_files
from worker.study.studies import study_digest

UNDATED = ""
"""The cursor's date once all studies that have a date are planned."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What one page came to; `at_end` where nothing lies behind it."""

    studies: int
    at_end: bool


def plan_page(database: Database, held: RunLease, view: RunView, *, size: int, now: datetime) -> Planned:
    """Give the next studies without an answer of the run's model a job in the archive lane.

    Raises
    ------
    worker.errors.LeaseLost
        When the run is not ours any more; nothing was written.
    """
    run = view.run
    with database.read() as session:
        found = session.execute(_page(view, size)).all()
    dated = run.cursor_date != UNDATED
    end_of_phase = len(found) < size
    at_end = end_of_phase and (not dated or bool(run.since or run.until))
    with database.write() as session:
        made = plan_studies(session, run, [study_id for study_id, _ in found], now)
        if end_of_phase:
            cursor = {"cursor_date": UNDATED, "cursor_study_id": found[-1][0] if found and not dated else None}
        else:
            cursor = {"cursor_date": found[-1][1] if dated else UNDATED, "cursor_study_id": found[-1][0]}
        held.change(
            session,
            **cursor,
            state="running",
            started_at=run.started_at or now,
            planned_at=now if at_end else None,
            reason=None,
            found=run.found + len(found),
            planned=run.planned + made,
            night_studies=ReanalysisRun.night_studies + made,
        )
    return Planned(made, at_end)


def unanswered(request: Request, model_version: str) -> ColumnElement[bool]:
    """Return the condition on a study that it is complete, here, matches, and the model has not answered for it."""
    conditions = [
        Study.state == "complete",
        Study.held_reason.is_(None),
        ~lacks_files(),
        ~answered(model_version),
        *_dates(request),
    ]
    if request.modalities or request.body_parts:
        conditions.append(_has_image(request))
    return and_(*conditions)


def answered(model_version: str) -> ColumnElement[bool]:
    """Return the condition on a complete study that the model has answered for its present contents."""
    latest, same = aliased(Job), aliased(Job)
    digest = (
        select(latest.digest)
        .where(latest.study_id == Study.id, latest.purpose == ANSWER)
        .order_by(latest.id.desc())
        .limit(1)
        .correlate(Study)
        .scalar_subquery()
    )
    # A study that is complete had a job of its present contents when it became so: its newest job's digest is theirs.
    by_model = (same.study_id == Study.id, same.model_version == model_version, same.purpose == ANSWER)
    return exists().where(*by_model, same.digest == digest)


def _dates(request: Request) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if request.since:
        conditions.append(Study.study_date >= as_da(request.since))
    if request.until:
        conditions.append(Study.study_date <= as_da(request.until))
    return conditions


def _has_image(request: Request) -> ColumnElement[bool]:
    conditions = [Instance.study_id == Study.id, Instance.out_of_scope_reason.is_(None)]
    if request.modalities:
        conditions.append(Instance.modality.in_(request.modalities))
    if request.body_parts:
        conditions.append(func.upper(Instance.body_part_examined).in_([word.upper() for word in request.body_parts]))
    return exists().where(*conditions)


def _page(view: RunView, size: int) -> Select[int, str | None]:
    """Return the next page: by (study_date, id), an index, and the studies that have no date after all others."""
    run, newest = view.run, view.run.direction == "newest"
    query = select(Study.id, Study.study_date).where(unanswered(view.request, run.model_version)).limit(size)
    if run.cursor_date == UNDATED:
        return query.where(Study.study_date.is_(None), Study.id > (run.cursor_study_id or 0)).order_by(Study.id)
    query = query.where(Study.study_date.is_not(None))
    if run.cursor_date is not None:
        place, cursor = tuple_(Study.study_date, Study.id), tuple_(run.cursor_date, run.cursor_study_id)
        query = query.where(place < cursor if newest else place > cursor)
    order = (Study.study_date.desc(), Study.id.desc()) if newest else (Study.study_date, Study.id)
    return query.order_by(*order)


def plan_studies(session: Session, run: ReanalysisRun, study_ids: Sequence[int], now: datetime) -> int:
    """Make jobs, events and items of studies in a few statements, however many they are; return how many jobs.

    Studies that are not complete or not whole here any more, or that the run's model has answered, are passed over.
    """
    if not study_ids:
        return 0
    # The studies before the jobs, in order of their keys, as everybody who locks more than one of them.
    whole = session.scalars(
        select(Study.id)
        .where(Study.id.in_(study_ids), Study.state == "complete", Study.held_reason.is_(None), ~lacks_files())
        .order_by(Study.id)
        .with_for_update()
    ).all()
    digests = _digests(session, whole)
    known = _known(session, whole, run.model_version)
    wanted = [each for each in study_ids if each in digests and (each, digests[each]) not in known]
    if not wanted:
        return 0
    values = [
        {
            "study_id": each,
            "digest": digests[each],
            "model_version": run.model_version,
            "lane": "archive",
            "state": "queued",
            "revision": 1,
            "attempts": 0,
            "created_at": now,
        }
        for each in wanted
    ]
    made = session.scalars(insert(Job).returning(Job.id, sort_by_parameter_order=True), values).all()
    _record_jobs(session, run.id, made, now)
    return len(made)


def _record_jobs(session: Session, run_id: int, job_ids: Sequence[int], now: datetime) -> None:
    """Add the event and the item of each job: one statement each, for a driver may send a row a round trip."""
    detail = {"lane": "archive", "revision": 1, "reanalysis": run_id}
    moment = literal(now, UtcDateTime)
    of_jobs = Job.id.in_(job_ids)
    events = select(moment, literal("queued"), Job.study_id, Job.id, literal(detail, JSON)).where(of_jobs)
    session.execute(insert(Event).from_select(["at", "kind", "study_id", "job_id", "detail"], events.order_by(Job.id)))
    items = (
        select(literal(run_id), Study.study_instance_uid, Job.id, literal("analysis"), moment)
        .join(Study, Study.id == Job.study_id)
        .where(of_jobs)
        .order_by(Job.id)
    )
    session.execute(
        insert(ReanalysisItem).from_select(["run_id", "study_instance_uid", "job_id", "state", "found_at"], items)
    )


def _digests(session: Session, study_ids: Sequence[int]) -> dict[int, str]:
    images: dict[int, list[tuple[str, str]]] = {each: [] for each in study_ids}
    rows = session.execute(
        select(Instance.study_id, Instance.sop_instance_uid, IDENTITY).where(
            Instance.study_id.in_(study_ids), Instance.out_of_scope_reason.is_(None)
        )
    )
    for study_id, uid, digest in rows:
        images[study_id].append((uid, digest))
    return {study_id: study_digest(found) for study_id, found in images.items()}


def _known(session: Session, study_ids: Sequence[int], model_version: str) -> set[tuple[int, str]]:
    rows = session.execute(
        select(Job.study_id, Job.digest).where(
            Job.study_id.in_(study_ids), Job.model_version == model_version, Job.purpose == ANSWER
        )
    )
    return {(study_id, digest) for study_id, digest in rows}
