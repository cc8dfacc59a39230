"""A DICOM file that a person wants kept: it takes the way of what the PACS pushes, and its source says 'upload'."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import structlog
from sqlalchemy import select

from dicom_io.errors import HeaderError
from dicom_io.header import read_header
from dicom_io.reception import CANNOT_UNDERSTAND, SUCCESS, Arrival, Reception, Reply, arrival_of_part10
from dicom_io.types import Peer
from dicom_io.wire import IncomingDataSet
from worker.database import Database
from worker.events import record
from worker.receptions import build_reception
from worker.settings import Settings
from worker.stores import store_of
from worker.table_base import utc_now
from worker.tables import Study

PEER = Peer("", "page", "upload")

log = structlog.get_logger(__name__)


def keep_upload(settings: Settings, database: Database, part10: bytes, by: str) -> str | None:
    """Keep a Part 10 file; return None once it is durable here, otherwise in words why it is not.

    1. The reception stores and records it, or refuses it and records that. The same file again changes nothing.
    2. What came of it and who asked for it become an event.

    Raises
    ------
    worker.errors.DatabaseError
        The event cannot be recorded now. The file may be kept all the same; to ask again does no harm.
    """
    study_instance_uid, reply = _take(settings, build_reception(settings, database), part10)
    with database.write() as session:
        study_id = session.scalar(select(Study.id).where(Study.study_instance_uid == study_instance_uid))
        if reply.status == SUCCESS:
            record(session, "upload_kept", utc_now(), study_id=study_id, by=by)
        else:
            record(session, "upload_refused", utc_now(), study_id=study_id, by=by, reason=reply.reason)
    return None if reply.status == SUCCESS else reply.reason


def _take(settings: Settings, reception: Reception, part10: bytes) -> tuple[str | None, Reply]:
    try:
        arrival = _arrival(part10, store_of(settings).spool, settings.maximum_instance_bytes)
    except HeaderError as error:
        log.warning("upload_refused", code=error.code)
        return None, Reply(CANNOT_UNDERSTAND, str(error))
    return arrival.study_instance_uid, reception.take(arrival)


def _arrival(part10: bytes, spool: Callable[[], BinaryIO], maximum_bytes: int) -> Arrival:
    header = read_header(io.BytesIO(part10))
    identity = (header.sop_class_uid, header.sop_instance_uid)
    return arrival_of_part10(part10, IncomingDataSet(spool, maximum_bytes), identity, PEER, header.study_instance_uid)
