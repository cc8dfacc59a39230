"""Files of the store that no row knows: what was just received when the database, or a process, went away.

A file is durable before its row is written, and its sender hears Success after that. What lies between was never
answered so, and its sender will mostly send it again, which finds the file and writes the row. Where it does not, the
file would be a patient's image that nobody analyses, counts or deletes. So the sweep looks at all files, page by page:

    no row of this SOP Instance UID     received once more, from the store: registered, analysed, answered;
                                        removed where its study was forgotten since (`bonewatch forget`)
    a row whose own file is gone        likewise: the reception decides whether it is the same image
    a row that has another file         of no use: removed where it was replaced by that one, else put into quarantine,
                                        on record in `rejections`

Only files of some age are looked at, for a reception may be at work. Whatever it does at the same moment, no row loses
its file: to register twice is to register once; a file is set aside only while nobody can write a row of it; and a
reception looks, after the row, whether its file is still there, and else writes it again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

import structlog
from sqlalchemy import exists, func, select, text
from sqlalchemy.orm import Session

from dicom_io.errors import HeaderError
from dicom_io.network.wire import IncomingDataSet
from dicom_io.receive.reception import OUT_OF_RESOURCES, SUCCESS, Reception, arrival_of_stored
from dicom_io.store.stores import Store
from dicom_io.types import Peer, StoredFile
from worker.db.database import Database
from worker.db.events import record
from worker.db.open_items import item_is_open
from worker.db.tables import (
    LIVE_SOURCES,
    Event,
    Instance,
    ReanalysisItem,
    Rejection,
    ReplacedInstance,
    Study,
    UtcDateTime,
)

PAGE = 200
"""Files looked at by one sweep."""
AGE = timedelta(minutes=10)
"""Younger files are left to those who are receiving them, or to their senders' next try."""
REST = timedelta(minutes=10)
"""Between two walks through the store."""
PEER = Peer("RECOVERED", "store")
"""As whom the tables know the sender of such a file: nobody knows it any more."""
NAME = re.compile(r"instances/([0-9.]+)/[0-9.]+/([0-9.]+)\.([0-9a-f]{16})\.dcm", re.ASCII)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file without a row: its place, what its name says, and the file of its instance's row, if there is one."""

    path: str
    study_instance_uid: str
    sop_instance_uid: str
    digest_begins: str
    written_at: float
    on_record: StoredFile | None


class UnrecordedFiles:
    """Walks through the store, a page a call; one for a process, safe to use from many threads.

    Parameters
    ----------
    database, store : Database, Store
        Those of the listener.
    reception : Reception
        The way in.
    maximum_bytes : int
        The largest instance.
    clock : callable
        The present moment, with its offset.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        reception: Reception,
        maximum_bytes: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._store = store
        self._reception = reception
        self._maximum_bytes = maximum_bytes
        self._clock = clock
        self._walk: Iterator[tuple[str, float]] | None = None
        self._next_walk: datetime | None = None
        self._lock = threading.Lock()

    def step(self) -> int:
        """Look at the next page of files; return how many of them are registered or set aside now.

        Raises
        ------
        dicom_io.errors.StoreError, worker.errors.DatabaseUnavailable
            When the one or the other does not answer; the next call begins anew.
        """
        if not self._lock.acquire(blocking=False):
            return 0  # another sweep is at it
        try:
            return self._step()
        except BaseException:
            self._walk = None
            raise
        finally:
            self._lock.release()

    def _step(self) -> int:
        now = self._clock()
        if self._walk is None:
            if self._next_walk is not None and now < self._next_walk:
                return 0
            self._walk, self._next_walk = self._store.received(), now + REST
        page = list(islice(self._walk, PAGE))
        if len(page) < PAGE:
            self._walk, self._next_walk = None, now + REST
        latest = (now - AGE).timestamp()
        # An object storage and this machine's copies of it may have the same file.
        found = self._without_row({path: written_at for path, written_at in page if written_at <= latest})
        return sum(self._settle(each) for each in found)

    def _without_row(self, written: Mapping[str, float]) -> list[_Found]:
        named = [(path, match) for path in written if (match := NAME.fullmatch(path))]
        with self._database.read() as session:
            rows = session.execute(
                select(Instance.sop_instance_uid, Instance.path, Instance.digest, Instance.size_bytes).where(
                    Instance.sop_instance_uid.in_({match[2] for _, match in named})
                )
            ).all()
        on_record = {uid: StoredFile(path, digest, size_bytes) for uid, path, digest, size_bytes in rows}
        return [
            _Found(path, match[1], match[2], match[3], written[path], on_record.get(match[2]))
            for path, match in named
            if on_record.get(match[2]) is None or on_record[match[2]].path != path
        ]

    def _settle(self, found: _Found) -> bool:
        if found.on_record is not None and self._store.holds(found.on_record):
            return self._set_aside(found, "its row has another file, which was received before or took its place")
        if self._belongs_to_archive(found):
            return False
        if self._is_forgotten(found):
            return self._remove(found)
        return self._receive(found)

    def _is_forgotten(self, found: _Found) -> bool:
        """Say whether somebody had the study's data removed after the file was written."""
        uid = Event.detail["study_instance_uid"].as_string()
        asked = select(func.max(Event.at, type_=UtcDateTime())).where(Event.kind == "study_forgotten")
        with self._database.read() as session:
            at = session.scalar(asked.where(uid == found.study_instance_uid))
        return at is not None and at.timestamp() >= found.written_at

    def _remove(self, found: _Found) -> bool:
        """Remove a file, unless its instance has a row by now: the study was sent again."""
        with self._database.write() as session:
            _keep_rows_out(session)
            if session.scalar(select(exists().where(Instance.sop_instance_uid == found.sop_instance_uid))):
                return False
            self._store.discard(StoredFile(found.path, found.digest_begins, 0))
        log.warning("forgotten_file_removed")
        return True

    def _belongs_to_archive(self, found: _Found) -> bool:
        """Say whether a re-analysis has fetched the study and will, or did, end its copy: alone it is not whole."""
        uid = found.study_instance_uid
        brought = exists().where(Study.study_instance_uid == uid, Study.source.in_(LIVE_SOURCES))
        fetched = exists().where(ReanalysisItem.study_instance_uid == uid, item_is_open())
        with self._database.read() as session:
            return bool(session.scalar(select(~brought & fetched)))

    def _receive(self, found: _Found) -> bool:
        incoming = IncomingDataSet(self._store.spool, self._maximum_bytes)
        try:
            arrival = arrival_of_stored(self._store.path(found.path), incoming, PEER)
        except HeaderError:
            return self._set_aside(found, "its header cannot be read any more")
        reply = self._reception.take(arrival)
        if reply.status == OUT_OF_RESOURCES:
            return False
        if reply.status != SUCCESS:
            return self._set_aside(found, f"it was refused when it was registered at last: {reply.reason}")
        log.warning("unrecorded_file_registered")
        with self._database.write() as session:
            study_id = session.scalar(select(Study.id).where(Study.study_instance_uid == found.study_instance_uid))
            record(
                session, "instance_recovered", self._clock(), study_id=study_id, sop_instance_uid=found.sop_instance_uid
            )
        return True

    def _set_aside(self, found: _Found, why: str) -> bool:
        """Put a file into quarantine, unless it has a row by now; nobody can write one meanwhile."""
        stored = StoredFile(found.path, found.digest_begins, 0)
        with self._database.write() as session:
            _keep_rows_out(session)
            of_instance = Instance.sop_instance_uid == found.sop_instance_uid
            if session.scalar(select(exists().where(of_instance, Instance.path == found.path))):
                return False
            before = (ReplacedInstance.instance_id == Instance.id, ReplacedInstance.path == found.path)
            if session.scalar(select(exists().where(of_instance, *before))):
                self._store.discard(stored)
                return True
            if not self._store.path(found.path).exists():
                return False
            aside = self._store.quarantine(stored, found.sop_instance_uid)
            session.add(
                Rejection(
                    at=self._clock(),
                    code="file_without_row",
                    reason=f"a stored file had no row: {why}; its sender was not told Success for it",
                    calling_ae_title=PEER.ae_title,
                    peer_address=PEER.address,
                    sop_instance_uid=found.sop_instance_uid,
                    quarantine_path=aside,
                )
            )
        log.warning("unrecorded_file_quarantined", reason=why)
        return True


def _keep_rows_out(session: Session) -> None:
    """Let nobody write a row of an instance until this transaction ends; SQLite's has the only write lock already."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE instances IN SHARE MODE"))
