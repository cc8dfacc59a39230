"""What an instance that arrives does to its study: whom it names, and that it is open again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_io.types import InstanceHeader
from worker.columns import fitted
from worker.events import record
from worker.patients import name_different_patients, tells_patient
from worker.tables import BROUGHT, Instance, Study


def describe(session: Session, study: Study, instance: Instance, header: InstanceHeader, now: datetime) -> bool:
    """Fill in what the first instances left out; say whether an image names another patient than those before it.

    The first image overrules reports and documents that came earlier.
    """
    said = _said(header)
    is_image = tells_patient(instance)
    others = [each for each in _images(session, study) if each.id != instance.id] if is_image else []
    for name, value in said.items():
        if value is not None and (getattr(study, name) is None or (is_image and not others)):
            setattr(study, name, value)
    differs = bool(others) and name_different_patients([instance, *others])
    if differs:
        record(session, "patient_differs", now, study_id=study.id, sop_instance_uid=header.sop_instance_uid)
    return differs


def _images(session: Session, study: Study) -> list[Instance]:
    of_study = session.scalars(select(Instance).where(Instance.study_id == study.id))
    return [each for each in of_study if tells_patient(each)]


def follow(session: Session, study: Study, existing: Instance, header: InstanceHeader, now: datetime) -> None:
    """Let the study name patient and order as an image does that was corrected."""
    if not tells_patient(existing):
        describe(session, study, existing, header, now)
        return
    for name, value in _said(header).items():
        if value is not None:
            setattr(study, name, value)


def _said(header: InstanceHeader) -> dict[str, Any]:
    return fitted(
        Study,
        patient_id=header.patient_id,
        accession_number=header.accession_number,
        study_date=header.study_date,
    )


def touch(session: Session, study: Study, now: datetime, source: str, *, in_scope: bool) -> None:
    """Start the quiet time anew; re-open the study for an image that came late.

    An image that is pushed or uploaded makes the study today's work, also where we are just fetching it from an
    archive. A study that was brought here once and is complete is the archive's work where fetching it brings another
    image to light.
    """
    if study.state == "complete":
        if not in_scope:
            return
        study.state = "receiving"
        study.completed_at = None
        study.source = source
        record(session, "reopened", now, study_id=study.id)
    if source in BROUGHT and in_scope:
        study.source = source
    # Listeners on two machines may disagree about the time by a little: it never runs backwards here.
    study.last_instance_at = max(study.last_instance_at, now)
