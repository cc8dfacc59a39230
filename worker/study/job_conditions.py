"""What is asked of jobs in SQL: which one answers for its study, which may be claimed, and which has to wait."""

from __future__ import annotations

import functools
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, or_
from sqlalchemy.orm import aliased

from worker.db.tables import ANSWER, SHADOW, Job


def latest_answer() -> ColumnElement[bool]:
    """Return the condition that a job is its study's latest answer, finished or not.

    The absence of a newer one is asked for each row looked at; a list of all newest jobs would be made first.
    """
    newer = aliased(Job)
    is_newer = and_(newer.study_id == Job.study_id, newer.purpose == ANSWER, newer.id > Job.id)
    return and_(Job.purpose == ANSWER, ~exists().where(is_newer))


def is_due(now: datetime) -> ColumnElement[bool]:
    """Return the condition that nothing holds a queued job back any more."""
    return or_(Job.next_attempt_at.is_(None), Job.next_attempt_at <= now)


def waits_in(lane: str, shadow: str | None) -> ColumnElement[bool]:
    """Return the condition that an answer waits in a lane; or a job of a model in `shadow`, of an answered study."""
    waits = and_(Job.state == "queued", Job.lane == lane)
    if shadow is None:
        return and_(waits, Job.purpose == ANSWER)
    # What cannot be answered, perhaps because it breaks workers, is not tried again by a model that nobody hears.
    answer = aliased(Job)
    answered = exists().where(
        answer.study_id == Job.study_id,
        answer.digest == Job.digest,
        answer.purpose == ANSWER,
        answer.state == "done",
    )
    return and_(waits, Job.purpose == SHADOW, Job.model_version == shadow, answered)


@functools.cache
def waits_for_another() -> ColumnElement[bool]:
    """Return the condition that another job of the study runs, or waits before this one in its lane.

    Every claim asks it, and to put it together takes longer than to ask it: so it is made once.
    """
    # No report follows from a shadow: it keeps no answer waiting.
    other = aliased(Job)
    older_in_lane = and_(other.state == "queued", other.lane == Job.lane, other.id < Job.id)
    return exists().where(
        other.study_id == Job.study_id,
        other.purpose == Job.purpose,
        other.id != Job.id,
        or_(other.state == "running", older_in_lane),
    )
