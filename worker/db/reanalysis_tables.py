"""The tables of re-analysis: a run, what became of each study that it took up, and the pace of asking an archive."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.base import UID, Base, Key, UtcDateTime, one_of
from worker.db.leases import Leased

RUN_STATES = ("planned", "running", "paused", "finished", "stopped")
TO_RETRIEVE = ("found", "retrieving")
WITHOUT_JOB = (*TO_RETRIEVE, "retrieved")
ITEM_STATES = (*WITHOUT_JOB, "analysis", "failed")
RETRIEVING = "state = 'retrieving'"
COPY_HERE = "copy_here"


class ReanalysisRun(Leased, Base):
    """One way through an archive with one model: planned -> running -> finished; a person pauses or stops it.

    `cursor_date` and `cursor_study_id` say how far the plan over the own store is, `cursor_date`, `cursor_time` and
    `window_minutes` that over an archive (worker.reanalysis.date_windows); `planned_at` that it is at its end. Whoever
    works on it holds `lease_token` until `lease_until`. `reason` says, in words, what it waits for or why it ended;
    after `setbacks` in a row an archive is left alone until `retry_at`. A run of the night has `night_started_at`, and
    rests from `night_until` on until the next night.
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
    cursor_time: Mapped[str | None] = mapped_column(String(4))
    window_minutes: Mapped[int | None] = mapped_column(Integer)
    setbacks: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    retry_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    found: Mapped[int] = mapped_column(Integer, default=0)
    planned: Mapped[int] = mapped_column(Integer, default=0)


class ReanalysisItem(Base):
    """One study that a run took up: in `analysis` its job says what becomes of it; or failed before, with the reason.

    A study that only the archive has goes found -> retrieving -> retrieved first. `attempts`, `next_attempt_at` and
    `retrieval_at` tell of its retrievals. `copy_here` is set before the first of them and taken back when no file of
    the study is left here, or when the study was pushed as well and its files are to stay.
    """

    __tablename__ = "reanalysis_items"
    __table_args__ = (
        one_of("state", ITEM_STATES),
        UniqueConstraint("run_id", "study_instance_uid"),
        Index(None, "run_id", "state"),
        # A study that is being retrieved is not complete; few are at any moment.
        Index(
            "ix_reanalysis_items_retrieving",
            "study_instance_uid",
            sqlite_where=text(RETRIEVING),
            postgresql_where=text(RETRIEVING),
        ),
        Index(
            "ix_reanalysis_items_copies",
            "study_instance_uid",
            sqlite_where=text(COPY_HERE),
            postgresql_where=text(COPY_HERE),
        ),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("reanalysis_runs.id"))
    study_instance_uid: Mapped[str] = mapped_column(UID)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    found_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retrieval_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    copy_here: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason_code: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text)


class ArchivePace(Base):
    """When an archive may be asked next, for each kind of request: one row each, whoever asks."""

    __tablename__ = "archive_pace"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
