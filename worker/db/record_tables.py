"""The tables of what happened: events, replaced instances, refusals, orders of people who change the model, C-MOVEs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.base import UID, Base, Key, UtcDateTime, one_of


class Event(Base):
    """What happened, in order: the trace of a study, and every change a person made."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    kind: Mapped[str] = mapped_column(String(32))
    study_id: Mapped[int | None] = mapped_column(ForeignKey("studies.id"), index=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Rejection(Base):
    """Something that was refused at the door, with the reason and where the bytes were put."""

    __tablename__ = "rejections"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    code: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    status: Mapped[int | None] = mapped_column(Integer)
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    peer_address: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str | None] = mapped_column(UID)
    quarantine_path: Mapped[str | None] = mapped_column(Text)


class ReplacedInstance(Base):
    """What an instance was until it came again in other bytes: in another encoding, or corrected.

    The columns are those of `instances` at that time; the file is gone. What replaced it stands in the next row of the
    same instance or, for the last one, in `instances` itself.
    """

    __tablename__ = "replaced_instances"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"), index=True)
    replaced_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    patient_id: Mapped[str | None] = mapped_column(String(64))
    issuer_of_patient_id: Mapped[str | None] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    path: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    content_digest: Mapped[str | None] = mapped_column(String(64))
    pixel_digest: Mapped[str | None] = mapped_column(String(64))
    attributes_digest: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    out_of_scope_reason: Mapped[str | None] = mapped_column(Text)
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    peer_address: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    file_deleted_reason: Mapped[str | None] = mapped_column(String(16))


class BundleChange(Base):
    """A person's order to use another model from then on, on one machine's home; jobs name the model that answered.

    `role` is current or shadow; `after_version` is empty where no model runs in shadow from then on.
    """

    __tablename__ = "bundle_changes"
    __table_args__ = (one_of("role", ("current", "shadow")),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    changed_by: Mapped[str] = mapped_column(String(128))
    host: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16), default="current", server_default="current")
    before_version: Mapped[str | None] = mapped_column(String(128))
    after_version: Mapped[str | None] = mapped_column(String(128))


class Move(Base):
    """A C-MOVE of ours that is under way, from `ae_title`; after `until` nothing is believed to come of it."""

    __tablename__ = "moves"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    message_id: Mapped[int] = mapped_column(Integer)
    ae_title: Mapped[str] = mapped_column(String(16))
    until: Mapped[datetime] = mapped_column(UtcDateTime)
