"""Storage commitment, against a small SCP in this process that answers as it is told."""

import queue
import threading

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from dicom_io.errors import PeerBusy, PeerRefused, PeerUnreachable
from dicom_io.send.commitment import ALL_COMMITTED, FAILURES_EXIST, request_commitment
from dicom_io.types import CommitmentReport, ReportReference
from tests.integration.dicom_io.send.test_sender import scp

COMMITMENT = {StorageCommitmentPushModel: [ImplicitVRLittleEndian]}
REFERENCES = tuple(ReportReference("1.2.840.10008.5.1.4.1.1.88.34", f"1.2.3.{n}", "1.2.4", "1.2.5") for n in (1, 2))
TRANSACTION = "2.25.1"


def event_information(committed=(), failed=(), transaction=TRANSACTION):
    ds = Dataset()
    ds.TransactionUID = transaction
    for keyword, uids in (("ReferencedSOPSequence", committed), ("FailedSOPSequence", failed)):
        items = []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
            item.ReferencedSOPInstanceUID = uid
            if keyword == "FailedSOPSequence":
                item.FailureReason = 0x0112
            items.append(item)
        if items:
            setattr(ds, keyword, items)
    return ds


class Pacs:
    """Takes N-ACTION requests and, when it has events to send, sends them on the same association afterwards."""

    def __init__(self, *events: tuple[int, Dataset], status: int = 0x0000, then=None) -> None:
        self.events, self.status, self.then = events, status, then
        self.requests: list[tuple[int, Dataset]] = []
        self.answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._answered = threading.Event()

    @property
    def handlers(self):
        return [(evt.EVT_N_ACTION, self._request), (evt.EVT_PDU_SENT, self._sent)]

    def _request(self, event: evt.Event) -> tuple[int, None]:
        self.requests.append((event.action_type, event.action_information))
        threading.Thread(target=self._report, args=(event.assoc,), daemon=True).start()
        return self.status, None

    def _sent(self, event: evt.Event) -> None:
        if self.requests:
            self._answered.set()

    def _report(self, assoc) -> None:
        self._answered.wait(60)
        if self.then is not None:
            self.then(assoc)
        for event_type, information in self.events:
            status, _ = assoc.send_n_event_report(
                information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            self.answers.put(status.get("Status"))


def ask(pacs, wait_seconds=5.0):
    with scp(COMMITMENT, pacs.handlers) as destination:
        return request_commitment(destination, REFERENCES, TRANSACTION, wait_seconds)


def test_the_request_names_the_transaction_and_every_instance():
    pacs = Pacs()
    assert ask(pacs, wait_seconds=0.05) is None
    ((action, information),) = pacs.requests
    assert (action, information.TransactionUID) == (1, TRANSACTION)
    named = [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in information.ReferencedSOPSequence]
    assert named == [(r.sop_class_uid, r.sop_instance_uid) for r in REFERENCES]


def test_an_answer_on_the_same_association_is_returned_and_acknowledged():
    pacs = Pacs((ALL_COMMITTED, event_information(committed=["1.2.3.1", "1.2.3.2"])))
    assert ask(pacs) == CommitmentReport(TRANSACTION, ("1.2.3.1", "1.2.3.2"))
    assert pacs.answers.get(timeout=120) == 0x0000


def test_the_association_lasts_until_the_answer_is_acknowledged(monkeypatch):
    send = DIMSEServiceProvider.send_msg

    def send_late(provider, primitive, context_id):
        if isinstance(primitive, N_EVENT_REPORT) and primitive.MessageIDBeingRespondedTo is not None:
            threading.Event().wait(0.2)
        send(provider, primitive, context_id)

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_late)
    pacs = Pacs((ALL_COMMITTED, event_information(committed=["1.2.3.1", "1.2.3.2"])))
    assert ask(pacs).committed == ("1.2.3.1", "1.2.3.2")
    assert pacs.answers.get(timeout=120) == 0x0000


def test_failures_on_the_same_association_are_returned():
    pacs = Pacs((FAILURES_EXIST, event_information(committed=["1.2.3.1"], failed=["1.2.3.2"])))
    assert ask(pacs) == CommitmentReport(TRANSACTION, ("1.2.3.1",), (("1.2.3.2", 0x0112),))


def test_an_instance_that_the_answer_forgets_counts_as_failed():
    report = ask(Pacs((ALL_COMMITTED, event_information(committed=["1.2.3.1"]))))
    assert report.committed == ("1.2.3.1",)
    assert report.failed == (("1.2.3.2", 0x0110),)


def test_somebody_elses_transaction_is_not_taken_for_ours_nor_acknowledged():
    other = event_information(committed=["1.2.3.1"], transaction="2.25.2")
    pacs = Pacs((ALL_COMMITTED, other), (ALL_COMMITTED, event_information(committed=["1.2.3.1", "1.2.3.2"])))
    assert ask(pacs).transaction_uid == TRANSACTION
    assert pacs.answers.get(timeout=120) != 0x0000


def test_a_malformed_answer_is_refused():
    information = event_information(committed=["1.2.3.1"])
    del information.TransactionUID
    pacs = Pacs((ALL_COMMITTED, information))
    with pytest.raises(PeerRefused, match="TransactionUID"):
        ask(pacs)


def test_an_unknown_event_type_is_refused():
    with pytest.raises(PeerRefused, match="event type 7"):
        ask(Pacs((7, event_information(committed=["1.2.3.1"]))))


def test_no_answer_within_the_time_means_later():
    assert ask(Pacs(), wait_seconds=0.05) is None


def test_a_peer_that_aborts_while_we_wait_means_later_and_at_once():
    assert ask(Pacs(then=lambda assoc: assoc.abort()), wait_seconds=60) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [(0x0213, PeerBusy), (0xA700, PeerBusy), (0x0110, PeerRefused), (0x0112, PeerRefused), (0x0124, PeerRefused)],
)
def test_a_request_that_is_not_taken_is_busy_or_refused(status, error):
    with pytest.raises(error, match=f"0x{status:04X}"):
        ask(Pacs(status=status))


def test_an_abort_instead_of_an_answer_is_unreachable():
    def abort(event: evt.Event) -> tuple[int, None]:
        event.assoc.abort()
        return 0x0000, None

    with scp(COMMITMENT, [(evt.EVT_N_ACTION, abort)]) as destination, pytest.raises(PeerUnreachable):
        request_commitment(destination, REFERENCES, TRANSACTION, 1)


def test_a_peer_without_the_service_refuses():
    with scp({Verification: [ImplicitVRLittleEndian]}) as destination, pytest.raises(PeerRefused, match="Commitment"):
        request_commitment(destination, REFERENCES, TRANSACTION, 1)
