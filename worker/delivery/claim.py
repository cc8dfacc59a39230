"""The right to advance one delivery, and which report it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select

from dicom_io.types import ReportReference
from worker.db.leases import Lease
from worker.db.tables import OBJECT_NAMES, Companion, Delivery


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """A delivery that is ours for as long as its lease is, and what is needed for it."""

    delivery_id: int
    lease: Lease
    state: str
    destination: str
    path: str
    reference: ReportReference
    attempts: int
    study_id: int
    job_id: int
    transaction_uid: str | None = None
    sent_at: datetime | None = None
    kind: str = "report"

    @property
    def name(self) -> str:
        """What is delivered, in words."""
        return OBJECT_NAMES[self.kind]


def report_id() -> ColumnElement[int]:
    """Return the report that a delivery is about, or whose companion it is about."""
    of_companion = select(Companion.report_id).where(Companion.id == Delivery.companion_id).scalar_subquery()
    return func.coalesce(Delivery.report_id, of_companion)
