"""Whose images a study holds. A report that lies on the wrong patient is worse than none.

Only images count: those to be analysed, and what else was acquired from a patient. A report, a presentation state or a
secondary capture with another Patient ID says nothing of whose images these are; it may be our own, sent back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_io.header.scope import is_acquired
from worker.db.events import record
from worker.db.tables import Instance, Study

MIXED_PATIENTS = "the study's images name different patients; nothing was analysed and no report was made"
WHAT_TO_DO = (
    "let the PACS send the older images again with the corrected patient: the study is then analysed by itself. "
    "If its data must go, `bonewatch forget STUDY`"
)


class Standing(Enum):
    """What a look at a study's patients has come to."""

    HELD = "held"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Named:
    """Whom an image names; either part may be missing."""

    patient_id: str | None
    issuer: str | None


def tells_patient(out_of_scope_reason: str | None, sop_class_uid: str) -> bool:
    """Say whether an instance counts where it is asked whose images a study holds."""
    return out_of_scope_reason is None or is_acquired(sop_class_uid)


def named_by_images(session: Session, study_id: int, *, without: int | None = None) -> tuple[Named, ...]:
    """Return whom the images of a study name, each once; that of one instance may be left out."""
    columns = (Instance.out_of_scope_reason, Instance.sop_class_uid, Instance.patient_id, Instance.issuer_of_patient_id)
    others = [] if without is None else [Instance.id != without]
    # Distinct: a study may have thousands of slices, and each that arrives asks.
    rows = session.execute(select(*columns).where(Instance.study_id == study_id, *others).distinct())
    return tuple(Named(patient, issuer) for reason, uid, patient, issuer in rows if tells_patient(reason, uid))


def are_different(named: Iterable[Named]) -> bool:
    """Say whether images name more than one patient.

    Two Patient IDs are two patients, and so is one ID of two issuers (PS3.3 C.7.1.1). An image without an ID names
    nobody, and one without an issuer none in particular. Names, however they are spelled, are no identity.
    """
    known = [each for each in named if _clean(each.patient_id)]
    ids = {_clean(each.patient_id) for each in known}
    issuers = {_clean(each.issuer) for each in known} - {""}
    return len(ids) > 1 or len(issuers) > 1


def hold_or_release(session: Session, study: Study, now: datetime) -> Standing | None:
    """Let a complete study whose images name different patients wait for a decision, or release one that waited.

    Returns
    -------
    Standing or None
        None where it neither waits nor did.
    """
    if are_different(named_by_images(session, study.id)):
        if study.held_reason is None:
            study.held_reason = MIXED_PATIENTS
            record(session, "held", now, study_id=study.id, reason=MIXED_PATIENTS)
        return Standing.HELD
    if study.held_reason is None:
        return None
    study.held_reason = None
    record(session, "released", now, study_id=study.id)
    return Standing.RELEASED


def _clean(text: str | None) -> str:
    return (text or "").strip()
