"""Which studies of a re-analysis have not come to their end: those to be retrieved, and those whose job is not done."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_
from sqlalchemy.orm import aliased

from worker.db.reanalysis_tables import WITHOUT_JOB
from worker.db.tables import Job, ReanalysisItem

UNDER_WAY = ("queued", "running")
"""The states of a job that is not done."""


def item_is_open(item: type[ReanalysisItem] = ReanalysisItem) -> ColumnElement[bool]:
    """Return the condition on a study of a re-analysis that neither its retrieval nor its analysis has ended."""
    job = aliased(Job)
    return or_(item.state.in_(WITHOUT_JOB), exists().where(job.id == item.job_id, job.state.in_(UNDER_WAY)))
