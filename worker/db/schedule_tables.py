"""The tables of the schedulers: which one's clock runs, and which ones stand by."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.base import UID, Base, UtcDateTime


class SchedulerLease(Base):
    """The right to run the clock: one row, `name` schedule. Whoever's `token` it has may until `lease_until`."""

    __tablename__ = "scheduler_lease"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    token: Mapped[str] = mapped_column(UID)
    acquired_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lease_until: Mapped[datetime] = mapped_column(UtcDateTime)


class Scheduler(Base):
    """A running `schedule`, under the token of its process; `name` is its machine and process id."""

    __tablename__ = "schedulers"

    token: Mapped[str] = mapped_column(UID, primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
