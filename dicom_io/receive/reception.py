"""One C-STORE request at a time: checked, made durable, recorded, and only then answered."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from pydicom.dataset import Dataset

from dicom_io.durable import as_store_errors
from dicom_io.errors import HeaderError, IncompleteHeader, StoreError
from dicom_io.header.elements import tag_text
from dicom_io.header.file_meta import encode_file_meta
from dicom_io.header.header import read_data_set_header, read_file_meta, read_header
from dicom_io.network.incident import incident
from dicom_io.network.wire import IncomingDataSet, address_of, printable
from dicom_io.pixels.digest_process import Unreadable, pixel_digest_apart
from dicom_io.receive.admission import Throttle, printable_uid
from dicom_io.receive.equivalence import Comparison, attributes_digest, likeness
from dicom_io.receive.intake import Intake, IntakeUnavailable
from dicom_io.store.stores import Store
from dicom_io.types import InstanceHeader, KnownInstance, Peer, Refusal, Registration, Replacement, StoredFile
from dicom_io.uids import is_safe_uid

log = structlog.get_logger()

# PS3.4 B.2.3 and PS3.7 Annex C.
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_TRIES = 5
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instance at the door: what the command says of it, its encoded data set, and whom it comes from.

    `study_instance_uid` is the study that we asked for, None where we asked for none. `header` is that of these very
    bytes where somebody has read it already.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: IncomingDataSet
    peer: Peer
    study_instance_uid: str | None = None
    header: InstanceHeader | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The C-STORE status that an instance is answered with, and in words why it is not Success."""

    status: int
    reason: str = ""


class _Refused(Exception):
    """The request gets a failure status. `keep` says whether the data set is put aside in quarantine."""

    def __init__(self, status: int, code: str, reason: str, *, keep: bool, quarantine_path: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason
        self.keep = keep
        self.quarantine_path = quarantine_path


class Reception:
    """Answers the requests of all associations; safe to use from many threads."""

    def __init__(self, store: Store, intake: Intake, throttle: Throttle | None = None) -> None:
        self._store = store
        self._intake = intake
        self._throttle = throttle or Throttle()

    def store_instance(self, event: Any) -> Dataset:
        """Answer a C-STORE request (handler of EVT_C_STORE)."""
        message_id = event.request.MoveOriginatorMessageID
        moved = message_id if isinstance(message_id, int) else None
        peer = Peer(printable(event.assoc.requestor.ae_title), address_of(event.assoc), move_message_id=moved)
        return _status(self.take(arrival_of(event, peer)))

    def receive(self, arrival: Arrival) -> int:
        """Take an instance that we asked for; return the status that a C-STORE of it gets."""
        return self.take(arrival).status

    def take(self, request: Arrival) -> Reply:
        """Take an instance, whichever way it came; never raises.

        1. Parse the header; refuse what cannot be parsed, lacks its identity, or is not what the command says.
        2. Write the data set, unchanged, durably.
        3. Have it recorded, durably.
        4. Only now answer Success.
        """
        try:
            self._receive(request)
        except _Refused as refused:
            return self._refuse(request, refused)
        except Exception as error:  # noqa: BLE001 - the edge to the network: whatever it was, the peer gets an answer
            log.critical("reception_failed", **incident(error))
            unexpected = _Refused(PROCESSING_FAILURE, "internal_error", "an unexpected error in bonewatch", keep=True)
            return self._refuse(request, unexpected)
        finally:
            request.data_set.close()
        return Reply(SUCCESS)

    def _receive(self, request: Arrival) -> None:
        incoming = request.data_set
        if incoming.too_large:
            # The limit is one of our resources; nothing of the object was kept.
            raise _Refused(OUT_OF_RESOURCES, "too_large", "the instance is larger than the limit", keep=False)
        if incoming.error is not None:
            raise _Refused(OUT_OF_RESOURCES, incoming.error.code, str(incoming.error), keep=False)
        header = _checked_header(request)
        try:
            stored = self._store.put_data_set(incoming.stream(), header)
            registration: Registration | None = self._intake.register(header, stored, request.peer)
            if registration is Registration.CONFLICT:
                registration = self._settle_conflict(header, stored, request.peer)
            if registration is not None and not self._store.holds(stored):
                # Who removed or set aside this very file came between it and its row; from now on the row keeps it.
                self._store.put_data_set(incoming.stream(), header)
        except (StoreError, IntakeUnavailable) as error:
            raise _Refused(OUT_OF_RESOURCES, error.code, str(error), keep=False) from error
        log.info(
            "instance_received",
            registration=(registration or Registration.DUPLICATE).value,
            size_bytes=stored.size_bytes,
            **_caller(request.peer),
        )

    def _settle_conflict(self, header: InstanceHeader, stored: StoredFile, peer: Peer) -> Registration | None:
        """Tell the same image in other bytes, which takes the place of the first, from another image under its UID.

        The old file goes once the new one is on record. Where the record changes meanwhile, for the same instance comes
        on two associations, all is compared again.
        """
        for _ in range(_TRIES):
            known = self._intake.known(header.sop_instance_uid)
            if known is None:
                raise IntakeUnavailable("the instance on record has just been removed: send it again")
            if known.stored.digest == stored.digest and not known.deleted:
                return Registration.DUPLICATE
            replacement = self._compare(known, header, stored)
            if replacement is None:
                self._store.discard(stored)
                return None
            if self._intake.replace(header, stored, peer, replacement):
                self._remove_replaced(header.sop_instance_uid, known.stored)
                return Registration.REPLACED
        raise IntakeUnavailable("the instance on record is being replaced by others: send it again")

    def _remove_replaced(self, sop_instance_uid: str, old: StoredFile) -> None:
        try:
            self._intake.remove_replaced(sop_instance_uid, old, self._store.discard)
        except (StoreError, IntakeUnavailable) as error:
            # The new one is durable and on record: that is what the sender has to hear.
            log.warning("replaced_file_not_removed", code=error.code)

    def _compare(self, known: KnownInstance, header: InstanceHeader, stored: StoredFile) -> Replacement | None:
        """Return how an instance replaces the one on record, None where that one says all of it."""
        arrived, before = self._store.path(stored.path), self._store.path(known.stored.path)
        if known.deleted or not before.exists():
            return _replacement_of_deleted(known, header, arrived)
        if known.study_instance_uid != header.study_instance_uid:
            raise self._another(header, stored)
        found = likeness(before, arrived)
        if found is Comparison.UNKNOWN:
            raise IntakeUnavailable("it cannot be compared with the stored instance now: send it again")
        if found is Comparison.ANOTHER:
            raise self._another(header, stored)
        return None if found is Comparison.SAME else Replacement(known, "same", same_content=False)

    def _another(self, header: InstanceHeader, stored: StoredFile) -> _Refused:
        return _Refused(
            DUPLICATE_SOP_INSTANCE,
            "duplicate_uid",
            "another instance with this SOP Instance UID and different content is stored already",
            keep=False,
            quarantine_path=self._store.quarantine(stored, header.sop_instance_uid),
        )

    def _refuse(self, request: Arrival, refused: _Refused) -> Reply:
        """Put aside, record, answer. When the record fails, the answer is "later": a refusal unseen is a loss.

        What is refused because the database is away is in the log alone: to wait for it once more would keep the sender
        waiting twice as long.
        """
        status = refused.status
        unrecordable = refused.code == IntakeUnavailable.code
        uid = request.sop_instance_uid if is_safe_uid(request.sop_instance_uid) else None
        # The same temporary refusal may come a thousand times an hour, for a sender retries.
        repeated = status == OUT_OF_RESOURCES and not self._throttle.admits(refused.code, request.peer.ae_title)
        log.warning("instance_refused", code=refused.code, status=f"0x{status:04X}", **_caller(request.peer))
        try:
            path = refused.quarantine_path or (self._quarantine(request) if refused.keep else None)
            if not repeated and not unrecordable:
                self._intake.reject(Refusal(refused.code, refused.reason, request.peer, status, uid, path))
        except IntakeUnavailable:
            log.warning("rejection_not_recorded", code=refused.code)
            status = OUT_OF_RESOURCES
        except Exception as error:  # noqa: BLE001 - the edge to the network
            log.critical("rejection_not_recorded", code=refused.code, **incident(error))
            status = OUT_OF_RESOURCES
        return Reply(status, refused.reason)

    def _quarantine(self, request: Arrival) -> str | None:
        prefix = encode_file_meta(
            printable_uid(request.sop_class_uid),
            printable_uid(request.sop_instance_uid),
            printable_uid(request.transfer_syntax_uid),
        )
        try:
            return self._store.quarantine_data_set(prefix, request.data_set.stream(), request.sop_instance_uid)
        except StoreError as error:
            # The refusal stands without it; the sender still has the object.
            log.warning("quarantine_failed", code=error.code)
            return None


def _replacement_of_deleted(known: KnownInstance, header: InstanceHeader, arrived: Path) -> Replacement:
    """Compare with what is kept of an instance whose file is gone; nothing that is here can be in conflict with it."""
    described = known.attributes_digest is not None and known.attributes_digest == header.attributes_digest
    described = described and known.study_instance_uid == header.study_instance_uid
    if known.pixel_digest is None or not described:
        return Replacement(known, "unknown", same_content=False)
    pixels = pixel_digest_apart(arrived)
    if isinstance(pixels, Unreadable):
        return Replacement(known, "unknown", same_content=False)
    same = known.pixel_digest == pixels
    return Replacement(known, "same" if same else "different", same_content=same)


def verify(_event: Any) -> int:
    """Answer a C-ECHO request (PS3.4 Annex A)."""
    return SUCCESS


def arrival_of(event: Any, peer: Peer, study_instance_uid: str | None = None) -> Arrival:
    """Return what a C-STORE request brings."""
    return Arrival(
        sop_class_uid=str(event.request.AffectedSOPClassUID or ""),
        sop_instance_uid=str(event.request.AffectedSOPInstanceUID or ""),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        data_set=event.request.DataSet,
        peer=peer,
        study_instance_uid=study_instance_uid,
    )


def arrival_of_stored(path: Path, incoming: IncomingDataSet, peer: Peer) -> Arrival:
    """Return what a stored file brings, as if it came now; fills `incoming`.

    Raises
    ------
    dicom_io.errors.HeaderError
        It is no Part 10 file, or its header cannot be read.
    dicom_io.errors.StoreError
        It cannot be read now.
    """
    header = read_header(path)
    with as_store_errors(), path.open("rb") as stream:
        read_file_meta(stream)
        while piece := stream.read(_PIECE_BYTES):
            incoming.write(piece)
    return Arrival(header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid, incoming, peer)


def arrival_of_part10(part10: bytes, incoming: IncomingDataSet, peer: Peer, header: InstanceHeader) -> Arrival:
    """Return what a Part 10 file brings whose header was read; fills `incoming`.

    Raises
    ------
    dicom_io.errors.HeaderError
        It is no such file.
    """
    stream = io.BytesIO(part10)
    read_file_meta(stream)
    incoming.write(stream.getbuffer()[stream.tell() :])
    return Arrival(
        header.sop_class_uid,
        header.sop_instance_uid,
        header.transfer_syntax_uid,
        incoming,
        peer,
        header.study_instance_uid,
        header,
    )


def _checked_header(request: Arrival) -> InstanceHeader:
    """Return the header if it is whole and is what the command announced (PS3.4 B.2.3)."""
    try:
        header = request.header or read_data_set_header(request.data_set.stream(), request.transfer_syntax_uid)
    except IncompleteHeader as error:
        raise _Refused(DATA_SET_MISMATCH, error.code, str(error), keep=True) from error
    except HeaderError as error:
        raise _Refused(CANNOT_UNDERSTAND, error.code, str(error), keep=True) from error
    for tag, of_command, of_data_set in (
        (0x00080016, request.sop_class_uid, header.sop_class_uid),
        (0x00080018, request.sop_instance_uid, header.sop_instance_uid),
    ):
        if of_command.strip(" \0") != of_data_set:
            reason = f"{tag_text(tag)} of the data set differs from the command's"
            raise _Refused(DATA_SET_MISMATCH, "command_mismatch", reason, keep=True)
    if request.study_instance_uid not in (None, header.study_instance_uid):
        reason = "an archive handed over an instance of another study than it was asked for"
        raise _Refused(DATA_SET_MISMATCH, "study_mismatch", reason, keep=True)
    return replace(header, attributes_digest=attributes_digest(request.data_set.stream(), request.transfer_syntax_uid))


def _status(reply: Reply) -> Dataset:
    answer = Dataset()
    answer.Status = reply.status
    if reply.reason:
        answer.ErrorComment = reply.reason[:64]  # (0000,0902) is LO
    return answer


def _caller(peer: Peer) -> dict[str, str]:
    return {"ae_title": peer.ae_title, "address": peer.address}
