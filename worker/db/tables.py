"""The database: one table a thing, one row a fact.

Times are UTC (`DateTime(timezone=True)`; SQLite keeps them without offset, `UtcDateTime` puts it back). States are
words, checked by the database. The schema is only ever made by the migrations; a test compares the two.

    studies 1--n instances                 what arrived
    studies 1--n jobs                      one for each (study, image contents, model version, revision)
    jobs 1--n image_results 1--n findings  what the model said
    jobs 1--1 reports 1--n deliveries      what the PACS gets, and whether it holds it for good
    reports 1--n companions 1--n deliveries   the pictures that go with a report
    events, rejections                     what happened, what was refused
    bundle_changes                         who had another model used, and when
    instances 1--n replaced_instances      what an instance was before it came again, corrected or encoded otherwise
    moves                                  our C-MOVEs that are under way
    reanalysis_runs 1--n reanalysis_items  the archive seen again (worker.db.reanalysis_tables)
    archive_pace                           when an archive may be asked next
    schedulers                             which ones live
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from worker.db.base import UID, Base, Key, UtcDateTime, one_of, utc_now
from worker.db.leases import Leased
from worker.db.reanalysis_tables import ArchivePace, ReanalysisItem, ReanalysisRun
from worker.db.record_tables import BundleChange, Event, Move, Rejection, ReplacedInstance
from worker.db.schedule_tables import Scheduler

__all__ = [
    "ANSWER",
    "COMPANION_KINDS",
    "IDENTITY",
    "OBJECT_NAMES",
    "OUTCOMES",
    "SHADOW",
    "UID",
    "ArchivePace",
    "Base",
    "BundleChange",
    "Companion",
    "Delivery",
    "Event",
    "Finding",
    "ImageResult",
    "Instance",
    "Job",
    "Key",
    "Move",
    "ReanalysisItem",
    "ReanalysisRun",
    "Rejection",
    "ReplacedInstance",
    "Report",
    "Scheduler",
    "Study",
    "UtcDateTime",
    "utc_now",
]

ANSWER, SHADOW = "answer", "shadow"
WAITING = "state = 'queued'"
UNBUILT = "state = 'failed'"
HELD = "held_reason IS NOT NULL"
SHADOWS = "purpose = 'shadow'"
FILE_DELETION_PENDING = "file_deleted_reason IS NOT NULL AND file_deleted_at IS NULL"
LIVE_ANSWERS = "state = 'done' AND lane = 'live' AND probability IS NOT NULL"


LIVE_SOURCES = ("push", "upload")
"""Sources of what somebody brought here: today's work, and nobody's to delete but `bonewatch purge`'s. All others are
how we fetched it from an archive."""


OUTCOMES = ("present", "inconclusive", "failed", "absent", "out_of_scope")
COMPANION_KINDS = ("capture", "presentation")
OBJECT_NAMES = {"report": "report", "capture": "marked image", "presentation": "presentation state"}
"""What the objects that are delivered are called in words."""


class Study(Base):
    """A study as it arrives. `state` goes receiving -> complete, and back when a late image comes.

    `revision` counts how often it was complete. `held_reason` says why it waits for a decision and is not analysed.
    """

    __tablename__ = "studies"
    __table_args__ = (
        one_of("state", ("receiving", "complete")),
        Index(None, "state", "last_instance_at"),
        Index(None, "study_date", "id"),
        Index(None, "first_instance_at", "id"),
        Index("ix_studies_held", "id", sqlite_where=text(HELD), postgresql_where=text(HELD)),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    patient_id: Mapped[str | None] = mapped_column(String(64), index=True)
    accession_number: Mapped[str | None] = mapped_column(String(64), index=True)
    study_date: Mapped[str | None] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(16), default="receiving")
    source: Mapped[str] = mapped_column(String(16), default="push")
    first_instance_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_instance_at: Mapped[datetime] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revision: Mapped[int] = mapped_column(Integer, default=0)
    held_reason: Mapped[str | None] = mapped_column(Text)

    instances: Mapped[list[Instance]] = relationship(back_populates="study")
    jobs: Mapped[list[Job]] = relationship(back_populates="study")


class Instance(Base):
    """One received SOP instance, image or not. `out_of_scope_reason` is empty where it is to be analysed.

    `patient_id` stands here too: a study whose images name different patients must not get a report. `digest` is that
    of the bytes that are stored now, `content_digest` what jobs know the image by, where that is no longer the digest
    of its first bytes (worker.reception.replacements). `pixel_digest` and `attributes_digest` tell what it shows and of
    whom, also when its file is gone; the first is empty until it was decoded. `file_deleted_reason` says that the file
    is being deleted, `file_deleted_at` that it is gone (worker.storage.file_removal).
    """

    __tablename__ = "instances"
    __table_args__ = (
        Index(
            "ix_instances_going",
            "study_id",
            sqlite_where=text(FILE_DELETION_PENDING),
            postgresql_where=text(FILE_DELETION_PENDING),
        ),
        # As the worklist compares it: the standard wants upper case (PS3.5 6.2, VR CS), not every modality gives it.
        Index("ix_instances_part", text("upper(body_part_examined)")),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    series_instance_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    patient_id: Mapped[str | None] = mapped_column(String(64))
    issuer_of_patient_id: Mapped[str | None] = mapped_column(String(64))
    modality: Mapped[str | None] = mapped_column(String(16))
    body_part_examined: Mapped[str | None] = mapped_column(String(64))
    laterality: Mapped[str | None] = mapped_column(String(16))
    view_position: Mapped[str | None] = mapped_column(String(64))
    number_of_frames: Mapped[int] = mapped_column(Integer, default=1)
    out_of_scope_reason: Mapped[str | None] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    content_digest: Mapped[str | None] = mapped_column(String(64))
    pixel_digest: Mapped[str | None] = mapped_column(String(64))
    attributes_digest: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    peer_address: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(16), default="push", server_default="push")
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    file_deleted_reason: Mapped[str | None] = mapped_column(String(16))
    file_deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    study: Mapped[Study] = relationship(back_populates="instances")

    @property
    def identity(self) -> str:
        """What jobs know this image by."""
        return self.content_digest or self.digest


IDENTITY = func.coalesce(Instance.content_digest, Instance.digest)
"""`Instance.identity` in SQL."""


class Job(Leased, Base):
    """One analysis of one study's image contents by one model version; the unit of work and of truth.

    A finished job is never changed: a retry is a new row with the next `revision`, so that no result changes without
    a trace. `digest` is the SHA-256 over the sorted (SOP Instance UID, identity) of the images in scope, with the
    out-of-scope reasons left out. A worker owns a running job only while it holds `lease_token` and `lease_until`
    is in the future.

    `last_image_at` is when the last of its images came, empty where it has none; a re-analysis does not ask for it.

    `purpose` tells answers from what a model in shadow says of the same images: stored, never the study's result, never
    reported. Whoever asks for a study's jobs means its answers and has to say so.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("study_id", "digest", "model_version", "revision"),
        one_of("state", ("queued", "running", "done", "failed")),
        one_of("lane", ("live", "archive")),
        one_of("purpose", (ANSWER, SHADOW)),
        one_of("outcome", OUTCOMES),
        Index(None, "state", "lane", "enqueued_at"),
        Index(None, "outcome", "finished_at"),
        # The next job of a lane, without a look at the backlog behind it.
        Index("ix_jobs_waiting", "lane", "purpose", "id", sqlite_where=text(WAITING), postgresql_where=text(WAITING)),
        Index("ix_jobs_shadows", "state", sqlite_where=text(SHADOWS), postgresql_where=text(SHADOWS)),
        # Means over weeks are read from the index alone.
        Index(
            "ix_jobs_answers",
            "finished_at",
            sqlite_where=text(LIVE_ANSWERS),
            postgresql_where=text(LIVE_ANSWERS),
            postgresql_include=["model_version", "outcome", "probability"],
        ),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    model_version: Mapped[str] = mapped_column(String(128))
    lane: Mapped[str] = mapped_column(String(16), default="live")
    purpose: Mapped[str] = mapped_column(String(16), default=ANSWER, server_default=ANSWER)
    revision: Mapped[int] = mapped_column(Integer, default=1)
    state: Mapped[str] = mapped_column(String(16), default="queued")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    last_image_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    enqueued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    claimed_by: Mapped[str | None] = mapped_column(String(128))
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    outcome: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    probability: Mapped[float | None] = mapped_column(Float)
    analysis_seconds: Mapped[float | None] = mapped_column(Float)

    study: Mapped[Study] = relationship(back_populates="jobs")
    image_results: Mapped[list[ImageResult]] = relationship(back_populates="job")
    report: Mapped[Report | None] = relationship(back_populates="job")


class ImageResult(Base):
    """What was said of one frame of one instance. `probability` is empty exactly where it was not analysed.

    `classifier_probability` and `detector_score` are what either network said by itself, before any calibration.
    `unlikeness` above 1 says that the image is unlike those that the model was trained on: it is inconclusive then.
    `warning` says which attributes of an analysed image could not be used and what took their place.
    """

    __tablename__ = "image_results"
    __table_args__ = (UniqueConstraint("job_id", "instance_id", "frame_number"), one_of("outcome", OUTCOMES))

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"), index=True)
    frame_number: Mapped[int] = mapped_column(Integer, default=1)
    outcome: Mapped[str] = mapped_column(String(16))
    probability: Mapped[float | None] = mapped_column(Float)
    reason_code: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(Text)
    analysis_seconds: Mapped[float | None] = mapped_column(Float)
    classifier_probability: Mapped[float | None] = mapped_column(Float)
    detector_score: Mapped[float | None] = mapped_column(Float)
    unlikeness: Mapped[float | None] = mapped_column(Float)
    warning: Mapped[str | None] = mapped_column(Text)

    job: Mapped[Job] = relationship(back_populates="image_results")
    instance: Mapped[Instance] = relationship()
    findings: Mapped[list[Finding]] = relationship(back_populates="image_result", order_by="Finding.number")


class Finding(Base):
    """One box: pixels of the original image, (0, 0) the top left corner of the first pixel, x along the columns."""

    __tablename__ = "findings"
    __table_args__ = (UniqueConstraint("image_result_id", "number"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    image_result_id: Mapped[int] = mapped_column(ForeignKey("image_results.id"))
    number: Mapped[int] = mapped_column(Integer)
    x1: Mapped[float] = mapped_column(Float)
    y1: Mapped[float] = mapped_column(Float)
    x2: Mapped[float] = mapped_column(Float)
    y2: Mapped[float] = mapped_column(Float)
    score: Mapped[float] = mapped_column(Float)

    image_result: Mapped[ImageResult] = relationship(back_populates="findings")


class Report(Base):
    """The structured report of a job. `state` failed means it could not be built; `reason` says why."""

    __tablename__ = "reports"
    __table_args__ = (
        one_of("state", ("built", "failed")),
        Index("ix_reports_unbuilt", "id", sqlite_where=text(UNBUILT), postgresql_where=text(UNBUILT)),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), unique=True)
    sop_instance_uid: Mapped[str | None] = mapped_column(UID, unique=True)
    sop_class_uid: Mapped[str | None] = mapped_column(UID)
    series_instance_uid: Mapped[str | None] = mapped_column(UID)
    predecessor_sop_instance_uid: Mapped[str | None] = mapped_column(UID)
    path: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    built_at: Mapped[datetime] = mapped_column(UtcDateTime)
    file_deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    job: Mapped[Job] = relationship(back_populates="report")
    companions: Mapped[list[Companion]] = relationship(back_populates="report")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="report")


class Companion(Base):
    """A picture of what a report says; `number` counts those of one kind. `state` and `reason` as a report's."""

    __tablename__ = "companions"
    __table_args__ = (
        UniqueConstraint("report_id", "kind", "number"),
        one_of("kind", COMPANION_KINDS),
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


class Delivery(Leased, Base):
    """A report on its way to one destination: pending -> sending -> sent -> committed, or failed for good.

    It is of the report itself or of one of its companions. `sop_class_uid` and `sop_instance_uid` are those really sent
    (the fallback class has its own instance UID).
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("report_id", "destination"),
        UniqueConstraint("companion_id", "destination"),
        CheckConstraint("(report_id IS NULL) <> (companion_id IS NULL)", name="one_object"),
        one_of("state", ("pending", "sending", "sent", "committed", "failed")),
        Index(None, "state", "next_attempt_at"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    report_id: Mapped[int | None] = mapped_column(ForeignKey("reports.id"), index=True)
    companion_id: Mapped[int | None] = mapped_column(ForeignKey("companions.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sop_instance_uid: Mapped[str | None] = mapped_column(UID, index=True)
    sop_class_uid: Mapped[str | None] = mapped_column(UID)
    transaction_uid: Mapped[str | None] = mapped_column(UID, index=True)
    commitment_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    committed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    confirmed_by: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)

    report: Mapped[Report | None] = relationship(back_populates="deliveries")
    companion: Mapped[Companion | None] = relationship(back_populates="deliveries")
