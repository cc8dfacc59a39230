"""Whose images a study holds. A report that lies on the wrong patient is worse than none.

Only images count: those to be analysed, and what else was acquired from a patient. A report, a presentation state or a
secondary capture with another Patient ID says nothing of whose images these are; it may be our own, sent back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_io.scope import is_acquired
from worker.events import record
from worker.tables import Instance, Study

MIXED_PATIENTS = "the study's images name different patients; nothing was analysed and no report was made"
WHAT_TO_DO = (
    "let the PACS send the older images again with the corrected patient: the study is then analysed by itself. "
    "If its data must go, `bonewatch forget STUDY`"
)


class Standing(Enum):
    """What a look at a study's patients has come to."""

    HELD = "held"
    RELEASED = "released"


def tells_patient(instance: Instance) -> bool:
    """Say whether an instance counts where it is asked whose images a study holds."""
    return instance.out_of_scope_reason is None or is_acquired(instance.sop_class_uid)


def name_different_patients(instances: Iterable[Instance]) -> bool:
    """Say whether the images of a study name more than one patient.

    Two Patient IDs are two patients, and so is one ID of two issuers (PS3.3 C.7.1.1). An image without an ID names
    nobody, and one without an issuer none in particular. Names, however they are spelled, are no identity.
    """
    images = [each for each in instances if tells_patient(each) and _clean(each.patient_id)]
    ids = {_clean(each.patient_id) for each in images}
    issuers = {_clean(each.issuer_of_patient_id) for each in images} - {""}
    return len(ids) > 1 or len(issuers) > 1


def hold_or_release(session: Session, study: Study, now: datetime) -> Standing | None:
    """Let a complete study whose images name different patients wait for a decision, or release one that waited.

    Returns
    -------
    Standing or None
        None where it neither waits nor did.
    """
    if name_different_patients(session.scalars(select(Instance).where(Instance.study_id == study.id))):
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
