"""Sending and asking, against other people's PACS: Orthanc and DCMTK's storescp."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_io.errors import PeerRefused, PeerUnreachable
from dicom_io.pixels.frames import read_displayed
from dicom_io.report.capture import build_capture
from dicom_io.report.companion import CompanionContent
from dicom_io.report.presentation import build_presentation
from dicom_io.report.structured_report import as_comprehensive_sr, build_report
from dicom_io.send.commitment import parse_event_report, request_commitment
from dicom_io.send.sender import accepted_object_classes, echo, find_instance, send, send_report
from dicom_io.types import CommitmentReport, Destination, Outcome, ReportReference
from tests import reports
from tests.builders import build_dx, uid
from tests.peers import LOOPBACK, Service, accepts_connections, free_port, program
from tests.reporting import ALGORITHM, MOMENT, content_of, reported, stored
from tests.scu import data_set
from tests.servers import Orthanc, orthanc
from worker.delivery.pacs import RemotePacs

pytestmark = pytest.mark.peer


@pytest.fixture
def image(tmp_path):
    return stored(build_dx(), tmp_path)


@pytest.fixture
def built(image):
    return build_report(content_of(reported(image, Outcome.PRESENT, boxes=2)))


@pytest.fixture
def report(built, tmp_path):
    path = tmp_path / "report.dcm"
    path.write_bytes(built.part10)
    return path


def never():
    pytest.fail("the fallback was made although it was not needed")


@contextmanager
def commitment_listener() -> Iterator[tuple[int, "queue.SimpleQueue[CommitmentReport]"]]:
    """Listen where Orthanc sends its N-EVENT-REPORT: a new association on which it is the SCP."""
    answers: queue.SimpleQueue[CommitmentReport] = queue.SimpleQueue()

    def receive(event: evt.Event) -> tuple[int, None]:
        answers.put(parse_event_report(event.event_information, event.event_type))
        return 0x0000, None

    ae = AE(ae_title="BONEWATCH")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server((LOOPBACK, 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, receive)])
    try:
        yield server.socket.getsockname()[1], answers
    finally:
        server.shutdown()


def destination_of(server: Orthanc) -> Destination:
    return Destination("orthanc", server.ae_title, LOOPBACK, server.dicom_port, "BONEWATCH", timeout_seconds=20)


def test_orthanc_stores_finds_commits_and_gives_back_what_was_sent(image, built, report, tmp_path):
    unknown = ReportReference(built.reference.sop_class_uid, uid("never sent"), uid("x"), uid("y"))
    with commitment_listener() as (port, answers), orthanc(tmp_path / "orthanc", port) as server:
        destination = destination_of(server)
        assert echo(destination) < 20
        assert accepted_object_classes(destination)[0] == built.reference.sop_class_uid
        assert find_instance(destination, built.reference) is False

        send(destination, [image])
        receipt = send_report(destination, report, never)
        assert receipt.reference == built.reference
        assert find_instance(destination, built.reference) is True
        assert find_instance(destination, unknown) is False

        transaction = uid("transaction")
        answer = request_commitment(destination, [built.reference, unknown], transaction, 0.5)
        answer = answer or answers.get(timeout=120)
        assert answer.transaction_uid == transaction
        assert answer.committed == (built.reference.sop_instance_uid,)
        assert [failed for failed, _ in answer.failed] == [unknown.sop_instance_uid]

        (held,) = server.instances("SR")
        back = server.download(held, tmp_path / "back")
        assert data_set(back) == data_set(report)
        assert len(server.studies()) == 1


def test_orthanc_stores_and_commits_marked_images_and_presentation_states(image, built, tmp_path):
    content = CompanionContent(reported(image, Outcome.PRESENT, boxes=2), 1, built.reference, ALGORITHM, MOMENT)
    made = [build(content, read_displayed(image, 1)) for build in (build_capture, build_presentation)]
    paths = [tmp_path / f"{number}.dcm" for number, _ in enumerate(made)]
    for path, companion in zip(paths, made, strict=True):
        path.write_bytes(companion.part10)
    references = [companion.reference for companion in made]
    with commitment_listener() as (port, answers), orthanc(tmp_path / "orthanc", port) as server:
        destination = destination_of(server)
        assert set(accepted_object_classes(destination)) >= {each.sop_class_uid for each in references}

        assert [RemotePacs().send_companion(destination, path).reference for path in paths] == references
        answer = request_commitment(destination, references, uid("transaction"), 0.5) or answers.get(timeout=120)

        assert set(answer.committed) == {each.sop_instance_uid for each in references}
        for path, reference in zip(paths, references, strict=True):
            held = server.download(server.find(reference.sop_instance_uid), tmp_path / "held")
            assert data_set(held) == data_set(path)
            assert reports.validator_errors(held) == []


def test_a_dcmtk_that_takes_no_pictures_says_so_and_has_the_report(image, built, report, tmp_path):
    content = CompanionContent(reported(image, Outcome.PRESENT, boxes=2), 1, built.reference, ALGORITHM, MOMENT)
    picture = tmp_path / "picture.dcm"
    picture.write_bytes(build_capture(content, read_displayed(image, 1)).part10)
    profile = tmp_path / "profile.cfg"
    profile.write_text(PROFILE.format(sop_class="Comprehensive3DSRStorage"))
    with storescp(tmp_path / "received", "--config-file", str(profile), "Default") as destination:
        assert send_report(destination, report, never).reference == built.reference
        with pytest.raises(PeerRefused, match="Secondary Capture"):
            RemotePacs().send_companion(destination, picture)


def test_sending_to_orthanc_twice_leaves_one_report(report, tmp_path):
    with commitment_listener() as (port, _), orthanc(tmp_path / "orthanc", port) as server:
        for _ in range(2):
            send_report(destination_of(server), report, never)
        assert len(server.instances("SR")) == 1


@contextmanager
def storescp(folder, *options: str) -> Iterator[Destination]:
    """Run DCMTK's storescp, which writes what it gets into `folder` as it came."""
    port = free_port()
    folder.mkdir()
    command = [program("storescp"), "--bit-preserving", "--output-directory", str(folder), *options, str(port)]
    service = Service("storescp", command, folder.parent / "storescp.log")
    service.start(lambda: accepts_connections(port))
    try:
        yield Destination("dcmtk", "STORESCP", LOOPBACK, port, "BONEWATCH", timeout_seconds=20)
    finally:
        service.stop()


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_dcmtk_gets_the_report_byte_for_byte(report, built, tmp_path):
    folder = tmp_path / "received"
    with storescp(folder) as destination:
        assert echo(destination) < 20
        assert built.reference.sop_class_uid in accepted_object_classes(destination)
        assert send_report(destination, report, never).reference == built.reference
    assert data_set(only_file(folder)) == data_set(report)


PROFILE = """\
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Accepted]
PresentationContext1 = {sop_class}\\Uncompressed
[[Profiles]]
[Default]
PresentationContexts = Accepted
"""


def test_a_dcmtk_without_3d_gets_the_other_class(report, built, tmp_path):
    other = as_comprehensive_sr(built.part10)

    def fallback():
        path = tmp_path / "fallback.dcm"
        path.write_bytes(other.part10)
        return path

    profile = tmp_path / "profile.cfg"
    profile.write_text(PROFILE.format(sop_class="ComprehensiveSRStorage"))
    folder = tmp_path / "received"
    with storescp(folder, "--config-file", str(profile), "Default") as destination:
        assert accepted_object_classes(destination) == (other.reference.sop_class_uid,)
        receipt = send_report(destination, report, fallback)
    assert receipt.reference == other.reference
    received = only_file(folder)
    assert data_set(received) == data_set(tmp_path / "fallback.dcm")
    assert reports.validator_errors(received) == []
    assert pydicom.dcmread(received).SOPInstanceUID == other.reference.sop_instance_uid


def test_a_dcmtk_that_offers_no_commitment_refuses_it(built, tmp_path):
    with storescp(tmp_path / "received") as destination, pytest.raises(PeerRefused, match="Storage Commitment"):
        request_commitment(destination, [built.reference], uid("transaction"), 1)


def test_a_dcmtk_that_aborts_every_store_is_told_from_one_that_stores(report, tmp_path):
    folder = tmp_path / "received"
    with storescp(folder, "--abort-during") as destination, pytest.raises(PeerUnreachable):
        send_report(destination, report, never)
    assert list(folder.iterdir()) == []
