"""Databases for tests, made by the migrations as in production, and the rows that tests begin with."""

from __future__ import annotations

import functools
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from dicom_io.types import InstanceHeader
from worker.db.database import Database, open_database, upgrade
from worker.db.tables import Base, Delivery, Event, Finding, ImageResult, Instance, Job, Report, Study
from worker.settings.connection_url import parse_database_url

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


class Clock:
    """A clock that goes on only when a test says so."""

    def __init__(self, now: datetime = MORNING) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def sqlite_database(folder: Path) -> Database:
    """Return an empty, upgraded SQLite database in this folder; the migrations run once for all tests."""
    path = folder / "bonewatch.sqlite3"
    path.write_bytes(_empty_sqlite())
    return open_database(parse_database_url(f"sqlite:///{path}"))


@functools.cache
def _empty_sqlite() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="bonewatch-test-"))
    try:
        upgrade(parse_database_url(f"sqlite:///{folder}/empty.sqlite3"))
        return (folder / "empty.sqlite3").read_bytes()
    finally:
        shutil.rmtree(folder)


def emptied(database: Database) -> Database:
    """Return an upgraded PostgreSQL database without a row."""
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with database.write() as session:
        session.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    return database


def header(instance: str = "2.25.101", study: str = "2.25.1", **values: Any) -> InstanceHeader:
    """Return the header of a hand radiograph that is in scope."""
    return InstanceHeader(
        **{
            "sop_instance_uid": instance,
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
            "series_instance_uid": f"{study}.5",
            "study_instance_uid": study,
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "modality": "CR",
            "body_part_examined": "HAND",
            "patient_id": "P-1",
            "accession_number": "A-1",
            "study_date": "20260302",
            **values,
        }
    )


def a_study(session: Session, number: int = 1, **values: Any) -> Study:
    """Add a study of patient P-<number>."""
    study = Study(
        **{
            "study_instance_uid": f"2.25.{number}",
            "patient_id": f"P-{number}",
            "accession_number": f"A-{number}",
            "study_date": "20260302",
            "state": "complete",
            "first_instance_at": MORNING,
            "last_instance_at": MORNING,
            "completed_at": MORNING + timedelta(seconds=30),
            **values,
        }
    )
    session.add(study)
    session.flush()
    return study


def an_instance(session: Session, study: Study, number: int = 1, **values: Any) -> Instance:
    """Add an instance; its UID is that of the study and a number."""
    instance = Instance(
        **{
            "study_id": study.id,
            "sop_instance_uid": f"{study.study_instance_uid}.{number}",
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
            "series_instance_uid": f"{study.study_instance_uid}.5",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "patient_id": study.patient_id,
            "modality": "CR",
            "body_part_examined": "HAND",
            "number_of_frames": 1,
            "path": f"instances/{number}.dcm",
            "digest": f"{number:064x}",
            "size_bytes": 1000,
            "calling_ae_title": "PACS",
            "peer_address": "10.0.0.5",
            "received_at": MORNING,
            **values,
        }
    )
    session.add(instance)
    session.flush()
    return instance


def a_job(session: Session, study: Study, **values: Any) -> Job:
    """Add a finished job with the outcome absent, two minutes after the study came."""
    job = Job(
        **{
            "study_id": study.id,
            "digest": "d" * 64,
            "model_version": "2026-03-01-first+01234567",
            "state": "done",
            "outcome": "absent",
            "probability": 0.03,
            "created_at": MORNING + timedelta(seconds=30),
            "finished_at": MORNING + timedelta(seconds=120),
            **values,
        }
    )
    session.add(job)
    session.flush()
    return job


def an_image(session: Session, job: Job, instance: Instance, boxes: int = 0, **values: Any) -> ImageResult:
    """Add what was said of an instance's first frame, with so many boxes."""
    image = ImageResult(
        **{"job_id": job.id, "instance_id": instance.id, "outcome": "absent", "probability": 0.03, **values},
        findings=[
            Finding(number=number, x1=10.5, y1=20.0, x2=30.25, y2=44.0, score=1 - number / 10)
            for number in range(1, boxes + 1)
        ],
    )
    session.add(image)
    session.flush()
    return image


def a_delivery(session: Session, job: Job, destination: str = "pacs", **values: Any) -> Delivery:
    """Add a delivery of the job's report, which is made where it is missing."""
    report = session.scalars(select(Report).filter_by(job_id=job.id)).one_or_none()
    if report is None:
        report = Report(job_id=job.id, sop_instance_uid=f"2.25.900{job.id}", state="built", built_at=MORNING)
    delivery = Delivery(
        **{"report": report, "destination": destination, "sop_instance_uid": report.sop_instance_uid, **values}
    )
    session.add(delivery)
    session.flush()
    return delivery


def only(database: Database, table: type[Base]) -> Any:
    """Return the only row."""
    with database.read() as session:
        return session.scalars(select(table)).one()


def count(database: Database, table: type[Base]) -> Any:
    """Return how many rows there are."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table))


def kinds(database: Database) -> list[str]:
    """Return the kinds of all events, in their order."""
    with database.read() as session:
        return list(session.scalars(select(Event.kind).order_by(Event.id)))
