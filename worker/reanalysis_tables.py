"""The tables of re-analysis: a run over an archive, and what became of each study that it took up."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from worker.table_base import UID, Base, Key, UtcDateTime, one_of

RUN_STATES = ("planned", "running", "paused", "finished", "stopped")
ITEM_STATES = ("queued", "done", "failed")


class ReanalysisRun(Base):
    """One way through an archive with one model: planned -> running -> finished; a person pauses or stops it.

    `cursor_date` and `cursor_study_id` say how far the plan is; `planned_at` that it is at its end. Whoever works on
    it holds `lease_token` until `lease_until`. `reason` says, in words, what it waits for or why it ended. A run of
    the night has `night_started_at`, and rests from `night_until` on until the next night.
    """

    __tablename__ = "reanalysis_runs"
    __table_args__ = (
        one_of("state", RUN_STATES),
        one_of("direction", ("newest", "oldest")),
        UniqueConstraint("source", "night_started_at"),
        Index(None, "state"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    source: Mapped[str] = mapped_column(String(64))
    since: Mapped[str | None] = mapped_column(String(8))
    until: Mapped[str | None] = mapped_column(String(8))
    modalities: Mapped[str | None] = mapped_column(Text)
    body_parts: Mapped[str | None] = mapped_column(Text)
    direction: Mapped[str] = mapped_column(String(16))
    maximum_studies: Mapped[int | None] = mapped_column(Integer)
    model_version: Mapped[str] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(16), default="planned")
    asked_by: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    planned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str | None] = mapped_column(Text)
    night_started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    night_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    night_studies: Mapped[int] = mapped_column(Integer, default=0)
    cursor_date: Mapped[str | None] = mapped_column(String(8))
    cursor_study_id: Mapped[int | None] = mapped_column(BigInteger)
    found: Mapped[int] = mapped_column(Integer, default=0)
    planned: Mapped[int] = mapped_column(Integer, default=0)
    lease_token: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ReanalysisItem(Base):
    """One study that a run took up: queued -> done, or failed with the reason."""

    __tablename__ = "reanalysis_items"
    __table_args__ = (
        one_of("state", ITEM_STATES),
        UniqueConstraint("run_id", "study_instance_uid"),
        Index(None, "run_id", "state"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("reanalysis_runs.id"))
    study_instance_uid: Mapped[str] = mapped_column(UID)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    found_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str | None] = mapped_column(Text)
