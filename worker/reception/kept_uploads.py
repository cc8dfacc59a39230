"""A DICOM file that a person wants kept: it takes the way of what the PACS pushes, and its source says 'upload'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from dicom_io.errors import HeaderError, StoreError
from dicom_io.header.header import read_header
from dicom_io.network.incident import incident
from dicom_io.network.wire import IncomingDataSet
from dicom_io.receive.admission import TRANSFER_SYNTAXES, is_storage_class
from dicom_io.receive.intake import IntakeUnavailable
from dicom_io.receive.reception import SUCCESS, Reception, arrival_of_part10
from dicom_io.types import InstanceHeader, Peer, Refusal
from worker.db.base import utc_now
from worker.db.events import record
from worker.db.tables import Study
from worker.errors import DatabaseError
from worker.reception.receptions import build_intake
from worker.storage.stores import store_of

if TYPE_CHECKING:
    from dicom_io.receive.intake import Intake
    from dicom_io.store.stores import Store
    from worker.db.database import Database
    from worker.settings.settings import Settings

PEER = Peer("UPLOAD", "page", "upload")
"""As whom the tables know everybody at the page: by its title, queries tell them from every PACS."""
UNTRACED = (
    "may be stored already, but the database cannot record now who kept it. "
    "Tick again later: the same file twice changes nothing."
)

log = structlog.get_logger(__name__)


class KeptUploads:
    """Keeps the uploads of a site; safe to use from many threads.

    Parameters
    ----------
    database : Database
        Where the trace goes.
    store, intake : Store, Intake
        Those of the listener.
    maximum_bytes : int
        The largest instance.
    """

    def __init__(self, database: Database, store: Store, intake: Intake, maximum_bytes: int) -> None:
        self._database = database
        self._store = store
        self._intake = intake
        self._reception = Reception(store, intake)
        self._maximum_bytes = maximum_bytes

    def keep(self, part10: bytes, by: str) -> str | None:
        """Keep a Part 10 file; return None once it is durable here, otherwise what became of it ("was not ...").

        1. What the listener would never have let in is refused, and that is recorded.
        2. The reception stores and records it, or refuses it and records that. The same file again changes nothing.
        3. What came of it and who asked for it become an event; without it, nobody hears of success.
        """
        study_instance_uid, refusal = self._take(part10)
        kind = "upload_kept" if refusal is None else "upload_refused"
        why: dict[str, Any] = {} if refusal is None else {"reason": refusal}
        try:
            with self._database.write() as session:
                study_id = session.scalar(select(Study.id).where(Study.study_instance_uid == study_instance_uid))
                record(session, kind, utc_now(), study_id=study_id, by=by, **why)
        except (DatabaseError, SQLAlchemyError) as error:
            log.warning("upload_not_traced", kind=kind, **incident(error))
            if refusal is None:
                return UNTRACED
        return None if refusal is None else f"was not stored: {refusal}"

    def _take(self, part10: bytes) -> tuple[str | None, str | None]:
        """Return the study that it belongs to, if known, and in words why it was refused, None where it was not."""
        try:
            header = read_header(part10)
        except HeaderError as error:
            aside = self._put_aside(part10)
            return None, self._refuse(Refusal(error.code, str(error), PEER, quarantine_path=aside))
        study_instance_uid = header.study_instance_uid
        inadmissible = _inadmissible(header)
        if inadmissible is not None:
            return study_instance_uid, self._refuse(inadmissible)
        incoming = IncomingDataSet(self._store.spool, self._maximum_bytes)
        reply = self._reception.take(arrival_of_part10(part10, incoming, PEER, header))
        return study_instance_uid, None if reply.status == SUCCESS else reply.reason

    def _refuse(self, rejection: Refusal) -> str:
        log.warning("upload_refused", code=rejection.code)
        try:
            self._intake.reject(rejection)
        except IntakeUnavailable:
            # The refusal stands without it: the person reads it, and still has the file.
            log.warning("rejection_not_recorded", code=rejection.code)
        return rejection.reason

    def _put_aside(self, part10: bytes) -> str | None:
        try:
            return self._store.quarantine(part10, "upload")
        except StoreError as error:
            log.warning("quarantine_failed", code=error.code)
            return None


def build_kept_uploads(settings: Settings, database: Database) -> KeptUploads:
    """Return what keeps the uploads of a site.

    Raises
    ------
    dicom_io.errors.StoreError
        The packages for the site's store are not installed.
    """
    store, intake = store_of(settings), build_intake(settings, database)
    return KeptUploads(database, store, intake, settings.maximum_instance_bytes)


def _inadmissible(header: InstanceHeader) -> Refusal | None:
    """Say what the listener says before anything is sent: it accepts no presentation context for such an object."""
    if not is_storage_class(header.sop_class_uid):
        code, reason = "sop_class_unsuitable", f"SOP class {header.sop_class_uid} is not one of objects that are stored"
    elif header.transfer_syntax_uid not in TRANSFER_SYNTAXES:
        code, reason = "transfer_syntax_unknown", f"transfer syntax {header.transfer_syntax_uid} is unknown"
    else:
        return None
    return Refusal(code, reason, PEER, sop_instance_uid=header.sop_instance_uid)
