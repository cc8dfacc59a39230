"""The rows of the worklist, a page at a time: as quick over a million studies as over ten.

A page begins below the last row of the one before (keyset), never at an offset. What no index finds is searched for
in windows of study keys, newest first, for no longer than `PATIENCE_SECONDS`: then the page says how far it looked.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, or_, select, union
from sqlalchemy.orm import Session

from dicom_io.types import Outcome
from worker.db.database import Database
from worker.db.tables import Instance, Job, Study
from worker.operate.results import V_RESULTS, ResultRow

PAGE_SIZE = 25
PATIENCE_SECONDS = 0.5
FIRST_WINDOW, LARGEST_WINDOW = 2_000, 32_000
"""Studies looked through by one statement."""
RARE = 2_000
"""An outcome of no more jobs than this, or a body part of no more images, is found through its index, a more common one
on the way."""
WAITING = "waiting"
NAMES = ("patient_id", "accession_number", "study_instance_uid")
POSITIVE = (Outcome.PRESENT.value, Outcome.INCONCLUSIVE.value)
"""What comes first with `positive_first`, a group each: on a busy day unclear studies must not bury suspected ones."""


@dataclass(frozen=True, slots=True)
class WorklistFilter:
    """Which studies. What is None does not matter.

    `outcome` may be `WAITING`, too. `since` (inclusive) and `until` (exclusive) are about the arrival of the first
    instance; `model` is a model version or its beginning; `text` is a whole patient ID, accession number or Study
    Instance UID. With `positive_first` present studies come first, then inconclusive ones, then all others.
    """

    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    body_part: str | None = None
    model: str | None = None
    text: str | None = None
    positive_first: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: below a study of a group; `2.4711` in words.

    With `positive_first` group 0 is present, 1 inconclusive, 2 all others; otherwise all studies are group 0.
    """

    group: int
    below: int

    def __str__(self) -> str:
        return f"{self.group}.{self.below}"


@dataclass(frozen=True, slots=True)
class WorklistPage:
    """Rows, and where the next page begins: None at the end. `looked_at_all` is False where patience ended first."""

    rows: tuple[ResultRow, ...]
    onward: Place | None
    looked_at_all: bool = True


def parse_place(text: str | None) -> Place | None:
    """Read a place from an address; None where there is none, or nonsense."""
    found = re.fullmatch(r"([012])\.([0-9]{1,18})", text or "", re.ASCII)
    return Place(int(found[1]), int(found[2])) if found else None


def worklist_page(
    database: Database,
    wanted: WorklistFilter,
    place: Place | None = None,
    *,
    size: int = PAGE_SIZE,
    patience_seconds: float = PATIENCE_SECONDS,
) -> WorklistPage:
    """Return a page of the worklist, the study that arrived last first.

    1. Which keys the dates, the text and a rare body part leave.
    2. Group by group, window by window, until the page is full, all was looked at, or patience ends.

    Raises
    ------
    worker.errors.DatabaseUnavailable
        When the database does not answer.
    """
    started = time.monotonic()
    found: list[tuple[int, ResultRow]] = []
    with database.read() as session:
        few = _few_with_part(session, wanted)
        bottom, top = _keys(session, wanted, few)
        for group, query in enumerate(_groups(session, wanted, few)):
            if place is not None and group < place.group:
                continue
            below = min(top, place.below) if place is not None and group == place.group else top
            window = FIRST_WINDOW if few is None else max(below - bottom, 1)
            while below > bottom:
                low = max(bottom, below - window)
                found += [(group, row) for row in _rows(session, query, low, below, size + 1 - len(found))]
                if len(found) > size:
                    last_group, last = found[size - 1]
                    return WorklistPage(tuple(row for _, row in found[:size]), Place(last_group, last.study_id))
                below, window = low, min(window * 4, LARGEST_WINDOW)
                if below > bottom and time.monotonic() - started > patience_seconds:
                    return WorklistPage(tuple(row for _, row in found), Place(group, below), looked_at_all=False)
    return WorklistPage(tuple(row for _, row in found), None)


def _rows(session: Session, query: Select[Any], low: int, below: int, limit: int) -> list[ResultRow]:
    key = V_RESULTS.c.study_id
    page = query.where(key >= low, key < below).order_by(key.desc()).limit(limit)
    return [ResultRow(*row) for row in session.execute(page)]


def _keys(session: Session, wanted: WorklistFilter, few: frozenset[int] | None) -> tuple[int, int]:
    """Return the lowest study key that can match, and one more than the highest."""
    if few is not None and not few:
        return 0, 0
    low, high = select(func.min(Study.id)), select(func.max(Study.id))
    for name in _names(wanted):
        low, high = low.where(name), high.where(name)
    bottom, top = session.scalar(low) or 0, (session.scalar(high) or -1) + 1
    # Keys grow with the moment of arrival, except among studies that begin to arrive in the same moments.
    arrival = Study.first_instance_at
    if wanted.since is not None:
        first = session.scalar(select(Study.id).where(arrival >= wanted.since).order_by(arrival).limit(1))
        bottom = top if first is None else max(bottom, first - FIRST_WINDOW)
    if wanted.until is not None:
        last = session.scalar(select(Study.id).where(arrival < wanted.until).order_by(arrival.desc()).limit(1))
        top = bottom if last is None else min(top, last + FIRST_WINDOW)
    return (bottom, top) if few is None else (max(bottom, min(few)), min(top, max(few) + 1))


def _groups(session: Session, wanted: WorklistFilter, few: frozenset[int] | None) -> list[Select[Any]]:
    query = select(V_RESULTS).where(*_conditions(wanted))
    if few is not None:
        query = query.where(V_RESULTS.c.study_id.in_(few))
    elif wanted.body_part:
        query = query.where(exists().where(Instance.study_id == V_RESULTS.c.study_id, _same_part(wanted.body_part)))
    if wanted.outcome is not None:
        return [query.where(_has_outcome(session, wanted.outcome))]
    if not wanted.positive_first:
        return [query]
    others = or_(V_RESULTS.c.outcome.is_(None), V_RESULTS.c.outcome.not_in(POSITIVE))
    return [*(query.where(_has_outcome(session, outcome)) for outcome in POSITIVE), query.where(others)]


def _has_outcome(session: Session, outcome: str) -> ColumnElement[bool]:
    c = V_RESULTS.c
    if outcome == WAITING:
        condition: ColumnElement[bool] = c.job_id.is_(None)
        unfinished = select(Job.study_id).where(Job.state.in_(("queued", "running")))
        with_it = select(union(select(Study.id).where(Study.state == "receiving"), unfinished).subquery())
    else:
        condition = c.outcome == outcome
        with_it = select(Job.study_id).where(Job.outcome == outcome)
    keys = session.scalars(with_it.limit(RARE + 1)).all()
    if not keys:
        return false()
    return and_(c.study_id.in_(keys), condition) if len(keys) <= RARE else condition


def _few_with_part(session: Session, wanted: WorklistFilter) -> frozenset[int] | None:
    """Return the studies with a body part, by its index; None where they are many, or no part is asked for."""
    if not wanted.body_part:
        return None
    with_it = select(Instance.study_id).where(_same_part(wanted.body_part)).limit(RARE + 1)
    keys = session.scalars(with_it).all()
    return frozenset(keys) if len(keys) <= RARE else None


def _same_part(body_part: str) -> ColumnElement[bool]:
    return func.upper(Instance.body_part_examined) == body_part.upper()


def _conditions(wanted: WorklistFilter) -> list[ColumnElement[bool]]:
    c = V_RESULTS.c
    found: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        found.append(c.received_at >= wanted.since)
    if wanted.until is not None:
        found.append(c.received_at < wanted.until)
    if wanted.model:
        found.append(c.model_version.startswith(wanted.model, autoescape=True))
    if wanted.text:
        found.append(or_(*(c[name] == wanted.text for name in NAMES)))
    return found


def _names(wanted: WorklistFilter) -> list[ColumnElement[bool]]:
    """Return what indexes on the studies find by themselves."""
    return [or_(*(getattr(Study, name) == wanted.text for name in NAMES))] if wanted.text else []
