"""Sending, against a small SCP in this process that answers as it is told."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_io.errors import HeaderError, PeerBusy, PeerRefused, PeerUnreachable, StoreError
from dicom_io.report.structured_report import as_comprehensive_sr, build_report
from dicom_io.send import sender
from dicom_io.send.sender import accepted_object_classes, echo, find_instance, send, send_report
from dicom_io.types import Destination, Outcome, ReportReference
from tests.builders import build_dx
from tests.peers import LOOPBACK, free_port
from tests.reporting import content_of, reported, stored
from tests.scu import data_set

EXPLICIT = [ExplicitVRLittleEndian]
BOTH = {Comprehensive3DSRStorage: EXPLICIT, ComprehensiveSRStorage: EXPLICIT}
ONLY_2D = {ComprehensiveSRStorage: EXPLICIT}


@contextmanager
def scp(contexts, handlers=(), port=0, **settings) -> Iterator[Destination]:
    """Run an SCP that accepts these SOP classes and yield it as a destination."""
    ae = AE(ae_title="PACS")
    for name, value in settings.items():
        setattr(ae, name, value)
    for sop_class, syntaxes in contexts.items():
        ae.add_supported_context(sop_class, syntaxes)
    server = ae.start_server((LOOPBACK, port), block=False, evt_handlers=list(handlers))
    try:
        yield Destination("test", "PACS", LOOPBACK, server.socket.getsockname()[1], "BONEWATCH", timeout_seconds=5)
    finally:
        server.shutdown()


class Store:
    """Handles C-STORE: answers with the next of the given statuses, the last one for ever, and keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses) or [0x0000]
        self.received: list[tuple[str, bytes]] = []

    def __call__(self, event: evt.Event) -> int:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 0 or 0xB000 <= status <= 0xBFFF:
            self.received.append((event.request.AffectedSOPClassUID, event.request.DataSet.getvalue()))
        return status

    @property
    def handlers(self):
        return [(evt.EVT_C_STORE, self)]


@pytest.fixture
def report(tmp_path) -> Path:
    path = tmp_path / "report.dcm"
    path.write_bytes(build_report(content_of(reported(stored(build_dx(), tmp_path), Outcome.PRESENT, 1))).part10)
    return path


@pytest.fixture
def fallback(report, tmp_path):
    def make() -> Path:
        path = tmp_path / "fallback.dcm"
        path.write_bytes(as_comprehensive_sr(report.read_bytes()).part10)
        return path

    return make


def never() -> Path:
    pytest.fail("the fallback was made although it was not needed")


def ref(path: Path) -> ReportReference:
    ds = pydicom.dcmread(path)
    return ReportReference(ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID)


def test_the_report_travels_byte_for_byte(report):
    store = Store()
    with scp(BOTH, store.handlers) as destination:
        receipt = send_report(destination, report, never)
    assert store.received == [(Comprehensive3DSRStorage, data_set(report))]
    assert (receipt.status, receipt.note) == (0x0000, None)
    assert receipt.reference == ref(report)


def test_a_peer_that_does_not_negotiate_3d_gets_the_other_class(report, fallback):
    store = Store()
    with scp(ONLY_2D, store.handlers) as destination:
        receipt = send_report(destination, report, fallback)
    assert store.received == [(ComprehensiveSRStorage, data_set(fallback()))]
    assert receipt.reference == as_comprehensive_sr(report.read_bytes()).reference


def test_a_peer_that_negotiates_3d_but_answers_not_supported_gets_the_other_class(report, fallback):
    store = Store(0x0122, 0x0000)
    with scp(BOTH, store.handlers) as destination:
        receipt = send_report(destination, report, fallback)
    assert [sop_class for sop_class, _ in store.received] == [ComprehensiveSRStorage]
    assert receipt.reference.sop_class_uid == ComprehensiveSRStorage


def test_not_supported_without_an_alternative_is_a_refusal(report):
    with scp({Comprehensive3DSRStorage: EXPLICIT}, Store(0x0122).handlers) as destination, pytest.raises(PeerRefused):
        send_report(destination, report, never)


def test_a_peer_that_takes_no_report_at_all_refuses(report):
    with (
        scp({Verification: EXPLICIT}) as destination,
        pytest.raises(PeerRefused, match="nor Comprehensive SR"),
    ):
        send_report(destination, report, never)


def test_a_peer_with_nothing_but_implicit_vr_gets_the_same_values(report):
    store = Store()
    with scp({Comprehensive3DSRStorage: [ImplicitVRLittleEndian]}, store.handlers) as destination:
        send_report(destination, report, never)
    ((_, encoded),) = store.received
    received = pydicom.dcmread(io.BytesIO(encoded), force=True)
    expected = pydicom.dcmread(report)
    del expected.file_meta
    assert list(received.keys()) == list(expected.keys())
    assert received.SOPInstanceUID == expected.SOPInstanceUID
    assert received.ContentSequence == expected.ContentSequence


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0xA700, PeerBusy), (0xA702, PeerBusy), (0x0213, PeerBusy),
        (0xA900, PeerRefused), (0xC000, PeerRefused), (0xC123, PeerRefused), (0x0124, PeerRefused),
    ],
)  # fmt: skip
def test_a_status_is_busy_or_refused(report, status, error):
    with scp(BOTH, Store(status).handlers) as destination, pytest.raises(error, match=f"0x{status:04X}"):
        send_report(destination, report, never)


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0xB123])
def test_a_warning_means_stored_with_a_note(report, status):
    with scp(BOTH, Store(status).handlers) as destination:
        receipt = send_report(destination, report, never)
    assert receipt.status == status
    assert receipt.note


def test_busy_now_and_stored_later_is_one_object(report):
    store = Store(0xA700, 0x0000)
    with scp(BOTH, store.handlers) as destination:
        with pytest.raises(PeerBusy):
            send_report(destination, report, never)
        assert send_report(destination, report, never).status == 0
    assert len(store.received) == 1


def test_nobody_there_is_unreachable(report):
    destination = Destination("test", "PACS", LOOPBACK, free_port(), "BONEWATCH", timeout_seconds=2)
    with pytest.raises(PeerUnreachable):
        send_report(destination, report, never)


def test_a_name_that_does_not_resolve_is_unreachable(report):
    with pytest.raises(PeerUnreachable):
        send_report(Destination("test", "PACS", "no-such-host.invalid", 104, "BONEWATCH"), report, never)


@pytest.mark.parametrize("port", [0, 70000])
def test_an_impossible_port_is_refused_before_anybody_is_called(report, port):
    with pytest.raises(PeerRefused):
        send_report(Destination("test", "PACS", LOOPBACK, port, "BONEWATCH", timeout_seconds=2), report, never)


def test_somebody_who_says_nothing_is_unreachable_after_the_timeout(report):
    with socket.create_server((LOOPBACK, 0)) as silent:
        port = silent.getsockname()[1]
        destination = Destination("test", "PACS", LOOPBACK, port, "BONEWATCH", timeout_seconds=0.5)
        with pytest.raises(PeerUnreachable):
            send_report(destination, report, never)


def test_somebody_who_speaks_http_is_unreachable(report):
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        destination = Destination("test", "PACS", LOOPBACK, port, "BONEWATCH", timeout_seconds=2)
        with pytest.raises(PeerUnreachable):
            send_report(destination, report, never)
        thread.join()


def test_an_abort_in_the_middle_is_unreachable(report):
    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    with scp(BOTH, [(evt.EVT_C_STORE, abort)]) as destination, pytest.raises(PeerUnreachable):
        send_report(destination, report, never)


def test_no_answer_to_the_store_is_unreachable(report):
    finished = threading.Event()

    def wait(event: evt.Event) -> int:
        finished.wait(60)
        return 0x0000

    with scp(BOTH, [(evt.EVT_C_STORE, wait)]) as destination:
        impatient = Destination("test", "PACS", LOOPBACK, destination.port, "BONEWATCH", timeout_seconds=0.5)
        with pytest.raises(PeerUnreachable):
            send_report(impatient, report, never)
        finished.set()


def test_an_unknown_called_title_is_refused(report):
    with scp(BOTH, require_called_aet=True) as destination:
        wrong = Destination("test", "OTHER", LOOPBACK, destination.port, "BONEWATCH", timeout_seconds=5)
        with pytest.raises(PeerRefused, match="does not go by that AE title"):
            send_report(wrong, report, never)


def test_an_unknown_calling_title_is_refused(report):
    with scp(BOTH, require_calling_aet=["SOMEBODY"]) as destination, pytest.raises(PeerRefused, match="does not know"):
        send_report(destination, report, never)


def test_a_peer_at_its_limit_is_busy(report):
    with scp(BOTH, maximum_associations=1) as destination:
        first = AE().associate(LOOPBACK, destination.port, [build_context(Comprehensive3DSRStorage)])
        try:
            with pytest.raises(PeerBusy, match="limit of associations"):
                send_report(destination, report, never)
        finally:
            first.release()


@pytest.mark.parametrize("title", ["", "A" * 17, "BACK\\SLASH"])
def test_an_impossible_title_is_refused_before_anybody_is_called(report, title):
    with pytest.raises(PeerRefused):
        send_report(Destination("test", title, LOOPBACK, free_port(), "BONEWATCH"), report, never)


def test_several_files_go_on_one_association(report, tmp_path):
    image = stored(build_dx(), tmp_path, "other")
    store, opened = Store(), []
    handlers = [*store.handlers, (evt.EVT_ESTABLISHED, opened.append)]
    with scp({**BOTH, DigitalXRayImageStorageForPresentation: EXPLICIT}, handlers) as destination:
        receipts = send(destination, [report, image])
    assert [encoded for _, encoded in store.received] == [data_set(report), data_set(image)]
    assert [receipt.reference for receipt in receipts] == [ref(report), ref(image)]
    assert len(opened) == 1


def test_a_compressed_file_is_never_converted(tmp_path):
    ds = build_dx(transfer_syntax=JPEG2000Lossless)
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    image = stored(ds, tmp_path, "compressed")
    with scp({DigitalXRayImageStorageForPresentation: EXPLICIT}) as destination, pytest.raises(PeerRefused):
        send(destination, [image])
    store = Store()
    with scp({DigitalXRayImageStorageForPresentation: [JPEG2000Lossless]}, store.handlers) as destination:
        send(destination, [image])
    assert store.received[0][1] == data_set(image)


def test_nothing_to_send_calls_nobody():
    assert send(Destination("test", "PACS", LOOPBACK, free_port(), "BONEWATCH"), []) == ()


def test_a_missing_file_and_one_that_is_no_dicom_are_told_apart(tmp_path):
    destination = Destination("test", "PACS", LOOPBACK, free_port(), "BONEWATCH")
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(StoreError):
        send(destination, [tmp_path / "missing.dcm"])
    with pytest.raises(HeaderError):
        send(destination, [tmp_path / "text.dcm"])


def test_echo_measures_the_answer():
    with scp({Verification: [*EXPLICIT, ImplicitVRLittleEndian]}) as destination:
        assert 0 < echo(destination) < 5


def test_echo_fails_where_verification_is_refused():
    with scp(BOTH) as destination, pytest.raises(PeerRefused, match="does not accept"):
        echo(destination)


@pytest.mark.parametrize(("contexts", "expected"), [(BOTH, tuple(BOTH)), (ONLY_2D, tuple(ONLY_2D))])
def test_the_accepted_object_classes_are_told(contexts, expected):
    with scp(contexts) as destination:
        assert accepted_object_classes(destination) == expected


def test_accepting_no_report_class_is_an_answer_too():
    with scp({Verification: [*EXPLICIT, ImplicitVRLittleEndian]}) as destination:
        assert accepted_object_classes(destination) == ()


def archive(uids, final=0x0000):
    """Return handlers of an archive that answers every C-FIND with these instances."""

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        assert event.identifier.QueryRetrieveLevel == "IMAGE"
        for uid in uids:
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.SOPInstanceUID = uid
            yield 0xFF00, match
        yield final, None

    return [(evt.EVT_C_FIND, find)]


FIND = {StudyRootQueryRetrieveInformationModelFind: [ImplicitVRLittleEndian]}


@pytest.mark.parametrize(("held", "expected"), [([], False), (["1.2.3"], False), (["1.2.3", None], True)])
def test_only_the_very_instance_counts_as_found(report, held, expected):
    uids = [ref(report).sop_instance_uid if uid is None else uid for uid in held]
    with scp(FIND, archive(uids)) as destination:
        assert find_instance(destination, ref(report)) is expected


@pytest.mark.parametrize(("status", "error"), [(0xA700, PeerBusy), (0xA900, PeerRefused), (0xC001, PeerRefused)])
def test_a_find_that_fails_says_nothing_of_the_instance(report, status, error):
    handlers = archive([ref(report).sop_instance_uid], final=status)
    with scp(FIND, handlers) as destination, pytest.raises(error):
        find_instance(destination, ref(report))


def test_an_archive_that_ignores_the_keys_is_not_listened_to_for_ever(report):
    with scp(FIND, archive(["1.2.3"] * 500)) as destination, pytest.raises(PeerRefused, match="ignores the keys"):
        find_instance(destination, ref(report))


def test_an_archive_without_queries_refuses(report):
    with scp(BOTH) as destination, pytest.raises(PeerRefused, match="does not accept"):
        find_instance(destination, ref(report))


def test_an_archive_that_aborts_its_answer_is_unreachable(report):
    def abort(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        event.assoc.abort()
        yield 0xFF00, Dataset()

    with scp(FIND, [(evt.EVT_C_FIND, abort)]) as destination, pytest.raises(PeerUnreachable):
        find_instance(destination, ref(report))


def test_an_association_that_ended_before_our_question_is_unreachable(report, monkeypatch):
    monkeypatch.setattr(sender, "require_class", lambda _destination, assoc, _sop_class: assoc.abort())
    with scp(FIND, archive([])) as destination, pytest.raises(PeerUnreachable):
        find_instance(destination, ref(report))
