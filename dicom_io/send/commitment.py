"""Storage commitment: asking a PACS to take over the safekeeping of what was sent to it (PS3.4 Annex J)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom import build_context, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_io.errors import HeaderError, PeerRefused
from dicom_io.network.association import ask, open_association, require_class, require_status
from dicom_io.types import CommitmentReport
from dicom_io.uids import is_safe_uid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pynetdicom.events import Event

    from dicom_io.types import Destination, ReportReference

ALL_COMMITTED = 1
"""Event Type ID: Storage Commitment Request Successful (PS3.4 J.3.3.1.1)."""
FAILURES_EXIST = 2
"""Event Type ID: Storage Commitment Request Complete - Failures Exist (PS3.4 J.3.3.1.2)."""
PROCESSING_FAILURE = 0x0110
"""Failure Reason of an item that carries none (PS3.3 C.14.1.1), and our status for an event that is none of ours."""
REQUEST = 1
"""Action Type ID: Request Storage Commitment (PS3.4 J.3.2.1)."""


def request_commitment(
    destination: Destination, references: Sequence[ReportReference], transaction_uid: str, wait_seconds: float
) -> CommitmentReport | None:
    """Ask a PACS to commit itself to what it has stored (N-ACTION), and wait a little for its answer.

    Some answer on the same association, some on a new one to our listener.

    Parameters
    ----------
    destination : dicom_io.types.Destination
        The PACS.
    references : sequence of dicom_io.types.ReportReference
        What it has stored, at least one.
    transaction_uid : str
        New for every request; the answer carries it, wherever it arrives.
    wait_seconds : float
        How long to keep the association open for the answer.

    Returns
    -------
    dicom_io.types.CommitmentReport or None
        None: the PACS took the request and answers later. Of the report, an instance that was asked for and is named
        neither as committed nor as failed counts as failed.

    Raises
    ------
    dicom_io.errors.PeerUnreachable, dicom_io.errors.PeerBusy, dicom_io.errors.PeerRefused
        The request was not taken; PeerRefused also where the PACS does not offer the service or its answer cannot be
        read.

    References
    ----------
    PS3.4 Annex J.3.
    """
    mailbox = _Mailbox()
    # Whatever ends the association ends the waiting.
    endings = [(event, mailbox.ended) for event in (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)]
    handlers = [
        (evt.EVT_N_EVENT_REPORT, _on_event_report, [transaction_uid, mailbox]),
        (evt.EVT_PDU_SENT, mailbox.sent),
        *endings,
    ]
    with open_association(destination, [build_context(StorageCommitmentPushModel)], handlers) as assoc:
        require_class(destination, assoc, StorageCommitmentPushModel)
        answer, _ = ask(
            destination,
            assoc.send_n_action,
            _action_information(references, transaction_uid),
            REQUEST,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        require_status(destination, answer, "storage commitment request")
        report = mailbox.wait(wait_seconds)
    if isinstance(report, HeaderError):
        raise PeerRefused(f"{destination.name} ({destination.ae_title}): {report}") from report
    return None if report is None else _complete(report, references)


class _Mailbox:
    """Keeps the answer until our acknowledgement has left: a release before it would cut it off."""

    def __init__(self) -> None:
        self._answer: CommitmentReport | HeaderError | None = None
        self._finished = threading.Event()

    def put(self, answer: CommitmentReport | HeaderError) -> None:
        """Take the answer; the acknowledgement follows it."""
        self._answer = answer

    def sent(self, event: Event) -> None:
        """Notice that a PDU was sent (handler of EVT_PDU_SENT)."""
        if self._answer is not None and isinstance(event.pdu, P_DATA_TF):
            self._finished.set()

    def ended(self, _event: Event) -> None:
        """Notice that nothing will come any more."""
        self._finished.set()

    def wait(self, seconds: float) -> CommitmentReport | HeaderError | None:
        """Return the answer, None where there was none in time."""
        self._finished.wait(seconds)
        return self._answer


def _action_information(references: Sequence[ReportReference], transaction_uid: str) -> Dataset:
    """Build the Action Information of PS3.4 Table J.3-1."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def _on_event_report(event: Event, transaction_uid: str, mailbox: _Mailbox) -> tuple[int, None]:
    try:
        report = parse_event_report(event.event_information, event.event_type)
    except HeaderError as error:
        mailbox.put(error)
        return PROCESSING_FAILURE, None
    except Exception as error:  # noqa: BLE001 - the peer's bytes decide what pydicom raises while it decodes them
        mailbox.put(HeaderError(f"the storage commitment answer cannot be decoded ({type(error).__name__})"))
        return PROCESSING_FAILURE, None
    if report.transaction_uid != transaction_uid:
        # Somebody else waits for this one; a failure makes the PACS keep it and tell our listener.
        return PROCESSING_FAILURE, None
    mailbox.put(report)
    return 0x0000, None


def _complete(report: CommitmentReport, references: Sequence[ReportReference]) -> CommitmentReport:
    named = {*report.committed, *(uid for uid, _ in report.failed)}
    forgotten = [reference.sop_instance_uid for reference in references if reference.sop_instance_uid not in named]
    failed = (*report.failed, *((uid, PROCESSING_FAILURE) for uid in forgotten))
    return CommitmentReport(report.transaction_uid, report.committed, failed)


def parse_event_report(dataset: Dataset, event_type: int) -> CommitmentReport:
    """Read the Event Information of a storage commitment N-EVENT-REPORT.

    An instance that is named as committed and as failed at once counts as failed, whatever the event type says.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        The decoded Event Information.
    event_type : int
        The Event Type ID of the N-EVENT-REPORT request.

    Returns
    -------
    dicom_io.types.CommitmentReport
        Instances in the order in which the PACS names them, each once.

    Raises
    ------
    dicom_io.errors.HeaderError
        When the event type is not one of storage commitment's or a UID is missing or malformed.

    References
    ----------
    PS3.4 Table J.3-2, Event Information.
    """
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        raise HeaderError(f"event type {event_type} is not one of storage commitment (1 or 2)")
    transaction_uid = _uid(dataset, "TransactionUID")
    failed = {
        _uid(item, "ReferencedSOPInstanceUID"): _failure_reason(item) for item in _items(dataset, "FailedSOPSequence")
    }
    named = (_uid(item, "ReferencedSOPInstanceUID") for item in _items(dataset, "ReferencedSOPSequence"))
    committed = dict.fromkeys(uid for uid in named if uid not in failed)
    return CommitmentReport(transaction_uid, tuple(committed), tuple(failed.items()))


def _items(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    try:
        items = list(dataset.get(keyword) or ())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise HeaderError(f"{keyword} of the storage commitment answer cannot be read") from error
    if not all(isinstance(item, Dataset) for item in items):
        raise HeaderError(f"{keyword} of the storage commitment answer is not a sequence")
    yield from items


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None or isinstance(value, MultiValue) or not is_safe_uid(str(value)):
        raise HeaderError(f"{keyword} of the storage commitment answer is missing or not a UID")
    return str(value)


def _failure_reason(item: Dataset) -> int:
    value = item.get("FailureReason")
    return value if isinstance(value, int) else PROCESSING_FAILURE
