"""The table of the schedulers that live."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.base import UID, Base, UtcDateTime


class Scheduler(Base):
    """A running `schedule`, under the token of its process; `name` is its machine and process id."""

    __tablename__ = "schedulers"

    token: Mapped[str] = mapped_column(UID, primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
