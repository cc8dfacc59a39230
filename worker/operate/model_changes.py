"""What two models said of the same studies: rows of the view `v_model_changes`, the most important first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import case, func, literal, select, tuple_

from worker.db.database import Database
from worker.db.tables import ANSWER, Job
from worker.operate.results import view_of

PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One study and what an earlier and a later model said of it: a row of `v_model_changes`."""

    study_instance_uid: str
    patient_id: str | None
    accession_number: str | None
    from_model: str
    from_outcome: str
    from_probability: float | None
    from_analysed_at: datetime
    to_model: str
    to_outcome: str
    to_probability: float | None
    analysed_at: datetime
    changed: int
    kind: str
    shadow: int
    from_job_id: int
    to_job_id: int
    study_id: int


V_MODEL_CHANGES = view_of("v_model_changes", ChangeRow)


def changes(
    database: Database,
    from_model: str,
    to_model: str,
    *,
    unchanged: bool = False,
    shadow: bool = False,
    limit: int | None = None,
) -> Iterator[ChangeRow]:
    """Yield the studies of which the later model says something else, as its answer or, if asked for, in shadow.

    New possible fractures come first, then those that became inconclusive, those that no longer are, the others;
    in each group the largest difference of probability first. Read in pages, each in a short transaction of its own.

    Raises
    ------
    worker.errors.DatabaseUnavailable
        When the database does not answer.
    """
    c = V_MODEL_CHANGES.c
    ranks = {"newly_suspected": 0, "newly_inconclusive": 1, "no_longer_suspected": 2, "other": 3}
    rank = case(ranks, value=c.kind, else_=4)
    # Negative, so that all three parts of the order rise and a page can begin behind the last one's end.
    difference = -func.abs(func.coalesce(c.to_probability - c.from_probability, 0.0))
    order = (rank, difference, c.to_job_id, c.from_job_id)
    query = select(*V_MODEL_CHANGES.c, rank, difference).where(c.from_model == from_model, c.to_model == to_model)
    query = query.where(c.shadow == int(shadow))
    if not unchanged:
        query = query.where(c.changed == 1)
    given, place = 0, None
    while limit is None or given < limit:
        size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - given)
        page = query if place is None else query.where(tuple_(*order) > tuple_(*map(literal, place)))
        with database.read() as session:
            found = session.execute(page.order_by(*order).limit(size)).all()
        rows = [ChangeRow(*row[: len(fields(ChangeRow))]) for row in found]
        yield from rows
        given += len(rows)
        if len(rows) < size:
            return
        place = (found[-1][-2], found[-1][-1], rows[-1].to_job_id, rows[-1].from_job_id)


def earlier_model(database: Database, current: str) -> str | None:
    """Return the model that answered last before the current one, None where no other ever did."""
    wanted = select(Job.model_version).where(Job.purpose == ANSWER, Job.state == "done", Job.model_version != current)
    with database.read() as session:
        return session.scalar(wanted.order_by(Job.id.desc()).limit(1))
