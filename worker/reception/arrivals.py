"""What an instance that arrives does to its study: whom it names, and that it is open again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from dicom_io.types import InstanceHeader
from worker.db.columns import truncated_to_columns
from worker.db.events import record
from worker.db.tables import LIVE_SOURCES, Instance, Study
from worker.study.patients import Named, are_different, named_by_images, tells_patient


def describe(session: Session, study: Study, instance: Instance, header: InstanceHeader, now: datetime) -> bool:
    """Fill in what the first instances left out; say whether an image names another patient than those before it.

    The first image overrules reports and documents that came earlier.
    """
    said = {name: value for name, value in _said(header).items() if value is not None}
    new = {name: value for name, value in said.items() if getattr(study, name) != value}
    overrules = differs = False
    if (new or header.issuer_of_patient_id) and tells_patient(instance.out_of_scope_reason, instance.sop_class_uid):
        others = named_by_images(session, study.id, without=instance.id)
        overrules = not others
        this = Named(instance.patient_id, instance.issuer_of_patient_id)
        differs = not are_different(others) and are_different((this, *others))
    for name, value in new.items():
        if overrules or getattr(study, name) is None:
            setattr(study, name, value)
    if differs:
        record(session, "patient_differs", now, study_id=study.id, sop_instance_uid=header.sop_instance_uid)
    return differs


def follow(session: Session, study: Study, existing: Instance, header: InstanceHeader, now: datetime) -> None:
    """Let the study name patient and order as an image does that was corrected."""
    if not tells_patient(existing.out_of_scope_reason, existing.sop_class_uid):
        describe(session, study, existing, header, now)
        return
    for name, value in _said(header).items():
        if value is not None:
            setattr(study, name, value)


def _said(header: InstanceHeader) -> dict[str, Any]:
    return truncated_to_columns(
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
    if source in LIVE_SOURCES and in_scope:
        study.source = source
    # Listeners on two machines may disagree about the time by a little: it never runs backwards here.
    study.last_instance_at = max(study.last_instance_at, now)
