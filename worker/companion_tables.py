"""The table of pictures that go with a report: marked images and presentation states."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from worker.table_base import UID, Base, Key, UtcDateTime, one_of

if TYPE_CHECKING:
    from worker.tables import Delivery, Report

KINDS = ("capture", "presentation")
NAMES = {"report": "report", "capture": "marked image", "presentation": "presentation state"}
"""What the objects that are delivered are called in words."""


class Companion(Base):
    """A picture of what a report says; `number` counts those of one kind. `state` and `reason` as a report's."""

    __tablename__ = "companions"
    __table_args__ = (
        UniqueConstraint("report_id", "kind", "number"),
        one_of("kind", KINDS),
        one_of("state", ("built", "failed")),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    kind: Mapped[str] = mapped_column(String(16))
    number: Mapped[int] = mapped_column(Integer)
    sop_instance_uid: Mapped[str | None] = mapped_column(UID, unique=True)
    sop_class_uid: Mapped[str | None] = mapped_column(UID)
    series_instance_uid: Mapped[str | None] = mapped_column(UID)
    path: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    file_deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    report: Mapped[Report] = relationship(back_populates="companions")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="companion")
