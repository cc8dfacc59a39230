"""The listener's way into the database: what arrived, what was refused, what a PACS has committed.

Everything here is one short transaction, durable when the method returns: the listener answers Success after that
and not before. A database that cannot take it now raises `IntakeUnavailable`, and the sender hears "later" (0xA700).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_io.class_names import is_image_class
from dicom_io.header.scope import ScopeRule, out_of_scope_reason
from dicom_io.receive.intake import CommitmentRefused, IntakeUnavailable, RecordRefused
from dicom_io.receive.listener_settings import AllowedCaller
from dicom_io.types import (
    CommitmentReport,
    InstanceHeader,
    KnownInstance,
    Peer,
    Refusal,
    Registration,
    Replacement,
    StoredFile,
)
from worker.db.columns import truncated_to_columns
from worker.db.database import Database, insert_new
from worker.db.events import record
from worker.db.tables import LIVE_SOURCES, Instance, Rejection, Study, utc_now
from worker.delivery.commitments import believed_from, hear
from worker.errors import DatabaseError
from worker.reception.arrivals import describe, follow, touch
from worker.reception.moves import source_of
from worker.reception.replacements import lock_study, move, received_values, replace_instance, unchanged
from worker.storage.file_removal import restore
from worker.study.studies import CAME_BACK, is_ours


class SqlIntake:
    """Registers what the listener receives; implements `dicom_io.receive.intake.Intake`. Threads may share one.

    Parameters
    ----------
    database : Database
        Where to.
    rule : ScopeRule
        Which instances are to be analysed.
    backoff : callable
        The seconds to wait after so many attempts before a report is sent again that a PACS did not commit.
    answerers : mapping of str to sequence of AllowedCaller
        Who may say what became of the reports that were sent to a destination, by its name; nobody else is believed.
    clock : callable
        The present moment, with its offset.
    """

    def __init__(
        self,
        database: Database,
        rule: ScopeRule,
        backoff: Callable[[int], float],
        clock: Callable[[], datetime] = utc_now,
        answerers: Mapping[str, Sequence[AllowedCaller]] = MappingProxyType({}),
    ) -> None:
        self._database = database
        self._rule = rule
        self._backoff = backoff
        self._clock = clock
        self._answerers = answerers

    def register(self, header: InstanceHeader, stored: StoredFile, peer: Peer) -> Registration:
        """Record a stored instance.

        1. Find or make the study's row and lock it: the sweep cannot complete the study meanwhile.
        2. Find the instance. The same content again changes nothing: it neither re-opens the study nor prolongs its
           quiet time, for a sender that repeats itself would otherwise keep the study from ever being complete.
           Other content, or another study, under the same SOP Instance UID is a conflict. A file that was deleted
           here is on record again.
        3. Otherwise insert it. An image starts the quiet time anew, and one that is to be analysed re-opens a complete
           study. Reports, presentation states, documents and what we made ourselves and the PACS sends back do
           neither: they change no result.

        Raises
        ------
        dicom_io.receive.intake.IntakeUnavailable
            When the database cannot take it now; nothing was recorded.
        """
        reason = out_of_scope_reason(header, self._rule)
        with self._available():
            while True:
                # Two associations may bring the same instance at the same moment. The one that loses the race starts
                # again, so that an empty study which it made for it is not kept, and then finds the other's row.
                try:
                    with self._database.write() as session:
                        return self._register(session, header, stored, peer, reason)
                except _OvertakenError:
                    continue

    def _register(
        self, session: Session, header: InstanceHeader, stored: StoredFile, peer: Peer, reason: str | None
    ) -> Registration:
        existing = session.scalars(select(Instance).filter_by(sop_instance_uid=header.sop_instance_uid)).one_or_none()
        now = self._clock()
        source = source_of(session, header.study_instance_uid, peer, now)
        if existing is not None:
            return _compare(session, existing, header, stored, source)
        if is_ours(session, header.sop_instance_uid):
            reason = CAME_BACK
        study = _lock_study(session, header, now, source)
        values = received_values(header, stored, peer, source=source, now=now, reason=reason)
        values |= {"study_id": study.id, "sop_instance_uid": header.sop_instance_uid}
        made = session.scalar(insert_new(session, Instance, "sop_instance_uid", values).returning(Instance.id))
        if made is None:
            raise _OvertakenError
        differs = describe(session, study, session.get_one(Instance, made), header, now)
        if reason is None or (reason != CAME_BACK and is_image_class(header.sop_class_uid)):
            touch(session, study, now, source, in_scope=reason is None or differs)
        return Registration.NEW

    def known(self, sop_instance_uid: str) -> KnownInstance | None:
        """Return what is on record for an instance, None where nothing is.

        Raises
        ------
        dicom_io.receive.intake.IntakeUnavailable
            When the database does not answer now.
        """
        with self._available(), self._database.read() as session:
            found = session.scalars(select(Instance).filter_by(sop_instance_uid=sop_instance_uid)).one_or_none()
            if found is None:
                return None
            return KnownInstance(
                StoredFile(found.path, found.digest, found.size_bytes),
                found.file_deleted_reason is not None,
                found.study.study_instance_uid,
                found.attributes_digest,
                found.pixel_digest,
            )

    def replace(self, header: InstanceHeader, stored: StoredFile, peer: Peer, replacement: Replacement) -> bool:
        """Let an instance take the place of the one on record (`worker.reception.replacements`).

        Raises
        ------
        dicom_io.receive.intake.IntakeUnavailable
            When the database cannot take it now; nothing was changed.
        """
        with self._available():
            try:
                with self._database.write() as session:
                    self._replace(session, header, stored, peer, replacement)
            except _OvertakenError:
                return False
        return True

    def _replace(
        self, session: Session, header: InstanceHeader, stored: StoredFile, peer: Peer, replacement: Replacement
    ) -> None:
        now = self._clock()
        ours = is_ours(session, header.sop_instance_uid)
        reason = CAME_BACK if ours else out_of_scope_reason(header, self._rule)
        source = source_of(session, header.study_instance_uid, peer, now)
        before = lock_study(session, replacement.known.study_instance_uid)
        study = _lock_study(session, header, now, source)
        existing = unchanged(session, before, header.sop_instance_uid, replacement.known)
        if before is None or existing is None:
            raise _OvertakenError
        if before.id != study.id:
            move(session, existing, before, study, now)
        concerns_answer = None in (reason, existing.out_of_scope_reason) or study.held_reason is not None
        values = received_values(header, stored, peer, source=source, now=now, reason=reason)
        replace_instance(session, existing, values, replacement, now)
        if source in LIVE_SOURCES and study.source not in LIVE_SOURCES and concerns_answer:
            study.source = source
        if not replacement.same_content:
            follow(session, study, existing, header, now)
            if concerns_answer:
                touch(session, study, now, source, in_scope=True)

    def remove_replaced(self, sop_instance_uid: str, stored: StoredFile, discard: Callable[[StoredFile], None]) -> None:
        """Have a file removed that was replaced, under its study's lock, unless it is the one on record again.

        Raises
        ------
        dicom_io.errors.StoreError
            When it cannot be removed now.
        dicom_io.receive.intake.IntakeUnavailable
            When the database does not answer now.
        """
        with self._available(), self._database.write() as session:
            of_instance = select(Instance.study_id).filter_by(sop_instance_uid=sop_instance_uid).scalar_subquery()
            session.execute(select(Study.id).where(Study.id == of_instance).with_for_update())
            path = session.scalar(select(Instance.path).filter_by(sop_instance_uid=sop_instance_uid))
            if path != stored.path:
                discard(stored)

    def reject(self, rejection: Refusal) -> None:
        """Record something that was refused at the door.

        Raises
        ------
        dicom_io.receive.intake.IntakeUnavailable
            When the database cannot take it now.
        """
        values = truncated_to_columns(
            Rejection,
            at=self._clock(),
            code=rejection.code,
            reason=rejection.reason,
            status=rejection.status,
            calling_ae_title=rejection.peer.ae_title,
            peer_address=rejection.peer.address,
            sop_instance_uid=rejection.sop_instance_uid,
            quarantine_path=rejection.quarantine_path,
        )
        with self._available(), self._database.write() as session:
            session.add(Rejection(**values))

    def commitment(self, report: CommitmentReport, peer: Peer) -> None:
        """Record what a PACS answered to a storage commitment request; the same answer twice changes nothing.

        Raises
        ------
        dicom_io.receive.intake.CommitmentRefused
            When it is about a report that was sent to somebody else.
        dicom_io.receive.intake.IntakeUnavailable
            When the database cannot take it now.
        """
        believed = believed_from(self._answerers, peer)
        with self._available(), self._database.write() as session:
            refusal = hear(session, report, peer, believed=believed, now=self._clock(), backoff=self._backoff)
        if refusal is not None:
            raise CommitmentRefused(refusal)

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise IntakeUnavailable(str(error)) from error
        except SQLAlchemyError as error:
            # What the database refuses for any other reason must not be answered Success either. The class alone:
            # the message holds the statement's values, which are patient data.
            raise RecordRefused(f"the database refuses the record: {type(error).__name__}") from None


class _OvertakenError(Exception):
    """Another association has just recorded the same instance."""


def _compare(
    session: Session, existing: Instance, header: InstanceHeader, stored: StoredFile, source: str
) -> Registration:
    study = existing.study
    if existing.digest != stored.digest or study.study_instance_uid != header.study_instance_uid:
        return Registration.CONFLICT
    if source in LIVE_SOURCES and study.source not in LIVE_SOURCES and existing.out_of_scope_reason is None:
        study.source = source
    return Registration.RESTORED if restore(session, existing) else Registration.DUPLICATE


def _lock_study(session: Session, header: InstanceHeader, now: datetime, source: str) -> Study:
    study = lock_study(session, header.study_instance_uid)
    if study is not None:
        return study
    values = truncated_to_columns(
        Study,
        study_instance_uid=header.study_instance_uid,
        patient_id=header.patient_id,
        accession_number=header.accession_number,
        study_date=header.study_date,
        state="receiving",
        source=source,
        first_instance_at=now,
        last_instance_at=now,
        revision=0,
    )
    made = session.scalar(insert_new(session, Study, "study_instance_uid", values).returning(Study.id))
    if made is not None:
        record(session, "received_first", now, study_id=made)
    locked = lock_study(session, header.study_instance_uid)
    if locked is None:
        raise _OvertakenError
    return locked
