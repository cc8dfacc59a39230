"""What failed for good, put together by reason, and all of one reason done again.

Pictures that go with a report are counted too, and not done again: they are made with their report only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from sqlalchemy import ColumnElement, and_, func, literal, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from worker.db.database import Database
from worker.db.tables import Companion, Delivery, Job, Report, UtcDateTime
from worker.delivery.claim import report_id
from worker.operate.retries import retry_failed, revive_deliveries
from worker.study.job_conditions import latest_answer

Repeatable = Literal["analysis", "report", "delivery"]
Kind = Repeatable | Literal["capture", "presentation"]
MOST_GROUPS = 20


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """So many failures of one kind and reason; `newest_at` is when the newest of them was analysed."""

    kind: Kind
    reason: str
    count: int
    newest_at: datetime | None


def failure_groups(database: Database) -> tuple[FailureGroup, ...]:
    """Return what failed of each study's latest job, the most frequent reason first, so many groups at most.

    Raises
    ------
    worker.errors.DatabaseUnavailable
        When the database does not answer.
    """
    latest = latest_answer()
    newest = func.max(Job.finished_at, type_=UtcDateTime())
    counted = (func.count(), newest)
    analysis = select(literal("analysis"), Job.reason, *counted).where(latest, _failed_analysis())
    report = select(literal("report"), Report.reason, *counted).join(Report.job).where(latest, Report.state == "failed")
    delivery = select(literal("delivery"), Delivery.reason, *counted).select_from(Delivery)
    delivery = delivery.join(Report, Report.id == report_id()).join(Report.job)
    companion = select(Companion.kind, Companion.reason, *counted).join(Companion.report).join(Report.job)
    queries = (
        analysis.group_by(Job.reason),
        report.group_by(Report.reason),
        delivery.where(latest, Delivery.state == "failed").group_by(Delivery.reason),
        companion.where(latest, Companion.state == "failed").group_by(Companion.kind, Companion.reason),
    )
    with database.read() as session:
        found = [
            FailureGroup(cast("Kind", kind), reason or "", count, at)
            for query in queries
            for kind, reason, count, at in session.execute(query.order_by(func.count().desc()).limit(MOST_GROUPS))
        ]
    return tuple(sorted(found, key=lambda group: group.count, reverse=True)[:MOST_GROUPS])


def retry_group(database: Database, kind: Repeatable, reason: str, *, model_version: str, now: datetime) -> int:
    """Do again what failed for one reason: an analysis, or what a delivery lacks; return how much is on its way now.

    Studies whose images were deleted here are left alone.
    """
    if kind == "analysis":
        because = and_(_failed_analysis(), _is(Job.reason, reason))
        return len(retry_failed(database, model_version=model_version, because=because, now=now))
    if kind == "report":
        because = Job.report.has(and_(Report.state == "failed", _is(Report.reason, reason)))
        return len(retry_failed(database, model_version=model_version, because=because, now=now))
    of_delivery = and_(Delivery.state == "failed", _is(Delivery.reason, reason))
    revived = revive_deliveries(database, because=of_delivery, now=now)
    # What is left has a report that nobody can send: its study is analysed again.
    left = Job.report.has(Report.deliveries.any(of_delivery))
    return revived + len(retry_failed(database, model_version=model_version, because=left, now=now))


def _failed_analysis() -> ColumnElement[bool]:
    return or_(Job.state == "failed", Job.outcome == "failed")


def _is(column: InstrumentedAttribute[str | None], reason: str) -> ColumnElement[bool]:
    return func.coalesce(column, "") == reason
