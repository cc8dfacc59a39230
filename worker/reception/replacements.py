"""An instance that came again in other bytes takes the place of the one on record; what that was stays on record too.

The same image in another encoding keeps its `content_digest`: jobs, answers and reports of it stay true, and nothing is
analysed again. Where anything differs that an answer or its report depends on, the pixels or the patient among it, the
content is new: the study is open again and gets a job, whose report names the one before it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_io.types import InstanceHeader, KnownInstance, Peer, Replacement, StoredFile
from worker.db.columns import truncated_to_columns
from worker.db.events import record
from worker.db.tables import Instance, ReplacedInstance, Study

KEPT = (
    *("patient_id", "issuer_of_patient_id", "transfer_syntax_uid", "path", "digest", "size_bytes", "content_digest"),
    *("pixel_digest", "attributes_digest", "out_of_scope_reason", "calling_ae_title", "peer_address", "source"),
    *("received_at", "file_deleted_reason"),
)
"""Columns of an instance that stay on record when it is replaced."""


def lock_study(session: Session, study_instance_uid: str) -> Study | None:
    """Return a study's row, locked."""
    # SQLite has no row locks and needs none: the transaction holds its one write lock.
    wanted = select(Study).filter_by(study_instance_uid=study_instance_uid).with_for_update()
    return session.scalars(wanted).one_or_none()


def unchanged(session: Session, study: Study | None, sop_instance_uid: str, known: KnownInstance) -> Instance | None:
    """Return the instance's row if it still is what was compared, in this study, None otherwise."""
    found = session.scalars(select(Instance).filter_by(sop_instance_uid=sop_instance_uid)).one_or_none()
    if found is None or study is None or found.study_id != study.id:
        return None
    same = (found.path, found.digest) == (known.stored.path, known.stored.digest)
    return found if same and (found.file_deleted_reason is not None) == known.deleted else None


def move(session: Session, existing: Instance, before: Study, study: Study, now: datetime) -> None:
    """Let an instance of which nothing is here belong to the study that it now names: an archive split or merged some.

    Answers of the study that it belonged to stay; if that waits for a decision, it may be another one now.
    """
    record(
        session, "instance_moved", now, study_id=before.id, sop_instance_uid=existing.sop_instance_uid,
        to_study_instance_uid=study.study_instance_uid,
    )  # fmt: skip
    existing.study = study
    session.flush()
    if before.held_reason is not None:
        before.state, before.completed_at = "receiving", None


def received_values(
    header: InstanceHeader, stored: StoredFile, peer: Peer, *, source: str, now: datetime, reason: str | None
) -> dict[str, Any]:
    """Return the columns of an instance that say what came, whence and when, and why it is not analysed, if so."""
    return truncated_to_columns(
        Instance,
        sop_class_uid=header.sop_class_uid,
        series_instance_uid=header.series_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        patient_id=header.patient_id,
        issuer_of_patient_id=header.issuer_of_patient_id,
        modality=header.modality,
        body_part_examined=header.body_part_examined,
        laterality=header.laterality,
        view_position=header.view_position,
        number_of_frames=header.number_of_frames,
        out_of_scope_reason=reason,
        path=stored.path,
        digest=stored.digest,
        size_bytes=stored.size_bytes,
        attributes_digest=header.attributes_digest,
        calling_ae_title=peer.ae_title,
        peer_address=peer.address,
        source=source,
        received_at=now,
    )


def replace_instance(
    session: Session, existing: Instance, values: dict[str, Any], replacement: Replacement, now: datetime
) -> None:
    """Write what came into the instance's row, and what it replaces into a row of its own; an event tells of both."""
    before = {name: getattr(existing, name) for name in KEPT}
    session.add(ReplacedInstance(instance_id=existing.id, replaced_at=now, **before))
    new_patient = _patient(existing.patient_id, existing.issuer_of_patient_id) != _patient(
        values["patient_id"], values["issuer_of_patient_id"]
    )
    identity = existing.identity
    for name, value in values.items():
        setattr(existing, name, value)
    existing.content_digest = identity if replacement.same_content else _next_identity(identity, existing.digest)
    if replacement.pixels != "same":
        existing.pixel_digest = None
    existing.file_deleted_reason = existing.file_deleted_at = None
    record(
        session, "instance_replaced", now, study_id=existing.study_id, sop_instance_uid=existing.sop_instance_uid,
        before=before["digest"], after=existing.digest, pixels=replacement.pixels, new_patient_id=new_patient,
        same_content=replacement.same_content, ae_title=values["calling_ae_title"], address=values["peer_address"],
    )  # fmt: skip


def _next_identity(before: str, digest: str) -> str:
    """Return an identity that no earlier content of the instance had, also where the very first bytes come back."""
    return hashlib.sha256(f"{before} {digest}".encode("ascii")).hexdigest()


def _patient(patient_id: str | None, issuer: str | None) -> tuple[str, str]:
    return (patient_id or "").strip(), (issuer or "").strip()
