"""What the database answers to people: results, findings and jobs, as frozen rows, one at a time.

The rows of `results` and `findings` are those of the views `v_results` and `v_findings` (docs/database.md); an
administrator's own SQL and `bonewatch results` therefore never differ.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sqlalchemy import (
    CompoundSelect,
    Float,
    Integer,
    Select,
    String,
    TableClause,
    column,
    func,
    select,
    table,
    union,
)
from sqlalchemy.types import TypeEngine

from dicom_io.types import Outcome
from worker.db.database import Database
from worker.db.tables import Job, Study, UtcDateTime

PAGE_SIZE = 500
"""Rows read in one short transaction: a slow reader of a long answer keeps no transaction open."""


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which results. What is None does not matter.

    `since` (inclusive) and `until` (exclusive) are about the moment of the analysis or, where there was none yet, of
    the first instance. `model` is a model version or the beginning of one.
    """

    since: datetime | None = None
    until: datetime | None = None
    outcome: Outcome | None = None
    patient_id: str | None = None
    accession_number: str | None = None
    model: str | None = None
    study_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One study: a row of `v_results`."""

    study_instance_uid: str
    patient_id: str | None
    accession_number: str | None
    study_date: str | None
    body_part: str | None
    modality: str | None
    state: str
    outcome: str | None
    probability: float | None
    images: int
    images_failed: int
    findings: int
    model_version: str | None
    reason: str | None
    received_at: datetime
    completed_at: datetime | None
    analysed_at: datetime | None
    turnaround_seconds: float | None
    report_state: str
    report_reason: str | None
    report_sop_instance_uid: str | None
    committed_at: datetime | None
    job_id: int | None
    revision: int | None
    update_pending: int
    held_reason: str | None
    study_id: int


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job, finished or not, with the study it is about."""

    job_id: int
    study_instance_uid: str
    accession_number: str | None
    lane: str
    purpose: str
    state: str
    outcome: str | None
    reason: str | None
    attempts: int
    revision: int
    model_version: str
    created_at: datetime
    next_attempt_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    claimed_by: str | None
    lease_until: datetime | None
    analysis_seconds: float | None


Row = TypeVar("Row", ResultRow, JobRow)
_KEYS = {ResultRow: "study_id", JobRow: "job_id"}
_TYPES: dict[Any, TypeEngine[Any]] = {str: String(), int: Integer(), float: Float(), datetime: UtcDateTime()}


def view_of(name: str, row: type[Any]) -> TableClause:
    """Return a view with the columns, and their types, of a dataclass of rows."""
    hints = get_type_hints(row)
    return table(name, *(column(field.name, _TYPES[plain_type(hints[field.name])]) for field in fields(row)))


def plain_type(hint: Any) -> Any:
    """Return the type of a column's values where it is not empty."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next(kind for kind in kinds if kind is not types.NoneType)


V_RESULTS = view_of("v_results", ResultRow)


def results(
    database: Database, wanted: ResultFilter | None = None, *, limit: int | None = None, below: int | None = None
) -> Iterator[ResultRow]:
    """Yield one row a study, the study that arrived last first; `below`, a `study_id`, is where to go on.

    Raises
    ------
    worker.errors.DatabaseUnavailable
        When the database does not answer.
    """
    query = _filtered(select(V_RESULTS), wanted or ResultFilter()).order_by(V_RESULTS.c.study_id.desc())
    return _paged(database, query, ResultRow, limit, below)


def jobs(
    database: Database,
    *,
    state: str | None = None,
    study_instance_uid: str | None = None,
    limit: int | None = None,
) -> Iterator[JobRow]:
    """Yield jobs, the newest first: all, those in one state, those of one study.

    Raises
    ------
    worker.errors.DatabaseUnavailable
        When the database does not answer.
    """
    of_job = (getattr(Job, field.name) for field in fields(JobRow)[3:])
    query = select(Job.id.label("job_id"), Study.study_instance_uid, Study.accession_number, *of_job).join(Study)
    if state is not None:
        query = query.where(Job.state == state)
    if study_instance_uid is not None:
        query = query.where(Study.study_instance_uid == study_instance_uid)
    return _paged(database, query.order_by(Job.id.desc()), JobRow, limit)


def _filtered(query: Select[Any], wanted: ResultFilter) -> Select[Any]:
    c = V_RESULTS.c
    moment = func.coalesce(c.analysed_at, c.received_at, type_=UtcDateTime())
    if wanted.since is not None:
        # The moment would be looked up for every study; this leaves those that an index finds.
        query = query.where(moment >= wanted.since, c.study_id.in_(_at_that_time(wanted)))
    if wanted.until is not None:
        # No answer comes before the images: the search begins at the last study that had arrived by then.
        arrived = select(func.max(Study.id)).where(Study.first_instance_at < wanted.until)
        query = query.where(moment < wanted.until, c.study_id <= arrived.scalar_subquery())
    if wanted.model is not None:
        query = query.where(c.model_version.startswith(wanted.model, autoescape=True))
    for name in ("outcome", "patient_id", "accession_number", "study_instance_uid"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(c[name] == str(value))
    return query


def _at_that_time(wanted: ResultFilter) -> CompoundSelect[tuple[int]]:
    analysed = select(Job.study_id).where(Job.finished_at >= wanted.since)
    arrived = select(Study.id).where(Study.first_instance_at >= wanted.since)
    if wanted.until is not None:
        analysed = analysed.where(Job.finished_at < wanted.until)
        arrived = arrived.where(Study.first_instance_at < wanted.until)
    return union(analysed, arrived)


def _paged(
    database: Database, query: Select[Any], kind: type[Row], limit: int | None, last: int | None = None
) -> Iterator[Row]:
    """Yield rows in the falling order of the query, a page at a time, each continuing below the last row's key."""
    name = _KEYS[kind]
    key = next(each for each in query.selected_columns if each.key == name)
    given = 0
    while limit is None or given < limit:
        size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - given)
        page = query if last is None else query.where(key < last)
        with database.read() as session:
            rows = [kind(*row) for row in session.execute(page.limit(size))]
        yield from rows
        given += len(rows)
        if len(rows) < size:
            return
        last = getattr(rows[-1], name)
