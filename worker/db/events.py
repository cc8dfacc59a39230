"""The trace of what happened: one row an event, written in the transaction of the change that it tells of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from worker.db.tables import Event


def record(
    session: Session,
    kind: str,
    at: datetime,
    *,
    study_id: int | None = None,
    job_id: int | None = None,
    **detail: Any,
) -> None:
    """Add one event; `detail` is kept as JSON and never holds patient data."""
    session.add(Event(at=at, kind=kind, study_id=study_id, job_id=job_id, detail=detail))
