"""The tables of what the model said: a row a frame, and a row a box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Float, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from worker.table_base import Base, Key, one_of

if TYPE_CHECKING:
    from worker.tables import Instance, Job

OUTCOMES = ("present", "inconclusive", "failed", "absent", "out_of_scope")


class ImageResult(Base):
    """What was said of one frame of one instance. `probability` is empty exactly where it was not analysed.

    `classifier_probability` and `detector_score` are what either network said by itself, before any calibration.
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
    warning: Mapped[str | None] = mapped_column(Text)

    job: Mapped[Job] = relationship(back_populates="image_results")
    instance: Mapped[Instance] = relationship()
    findings: Mapped[list[Finding]] = relationship(back_populates="image_result")


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
