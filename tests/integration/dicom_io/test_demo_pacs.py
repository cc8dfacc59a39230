"""The demonstration's PACS against our own sender, a plain pynetdicom requester and DCMTK."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_io.demo_pacs import NO_SUCH_INSTANCE, DemoPacs
from dicom_io.send.commitment import parse_event_report
from dicom_io.send.sender import echo, find_instance, send
from dicom_io.types import CommitmentReport, Destination, ReportReference
from tests.builders import build_cr, build_dx, uid, write_part10

US = "BONEWATCH"


class Ear:
    """A listener for storage commitment reports, as ours is: provider and user roles offered."""

    def __init__(self) -> None:
        self.reports: list[CommitmentReport] = []
        self.heard = threading.Event()
        ae = AE(ae_title=US)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self.server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_report)]
        )

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append(parse_event_report(event.event_information, event.event_type))
        self.heard.set()
        return 0x0000, None

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.server_address[1]


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.server.shutdown()


@pytest.fixture
def pacs(tmp_path: Path, ear: Ear) -> Iterator[DemoPacs]:
    with DemoPacs(tmp_path / "pacs", requesters={US: ear.address}) as pacs:
        yield pacs


@pytest.fixture
def destination(pacs: DemoPacs) -> Destination:
    return Destination("pacs", pacs.ae_title, "127.0.0.1", pacs.port, US, timeout_seconds=10)


def ask_commitment(destination: Destination, transaction: str, *references: tuple[str, str]) -> int:
    ae = AE(ae_title=destination.calling_ae_title)
    ae.add_requested_context(StorageCommitmentPushModel)
    assoc = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = []
    for sop_class, sop_instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        request.ReferencedSOPSequence.append(item)
    status, _ = assoc.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    assoc.release()
    return int(status.Status)


def test_it_answers_an_echo(destination: Destination) -> None:
    assert echo(destination) < 10


def test_it_keeps_what_it_got_bit_for_bit(pacs: DemoPacs, destination: Destination, tmp_path: Path) -> None:
    path = write_part10(build_dx(), tmp_path / "image.dcm")
    send(destination, [path])
    [held] = pacs.held()
    data_set = path.read_bytes().partition(b"DICM")[2]
    assert held.path.read_bytes()[-2000:] == data_set[-2000:]
    assert held.header.sop_instance_uid == uid("study", "series", "instance")


def test_it_finds_what_it_keeps_and_nothing_else(pacs: DemoPacs, destination: Destination, tmp_path: Path) -> None:
    send(destination, [write_part10(build_cr(), tmp_path / "image.dcm")])
    [kept] = pacs.references()
    other = ReportReference(kept.sop_class_uid, uid("other"), kept.series_instance_uid, kept.study_instance_uid)
    assert find_instance(destination, kept)
    assert not find_instance(destination, other)


def test_it_commits_what_it_keeps_on_an_association_of_its_own(
    pacs: DemoPacs, destination: Destination, tmp_path: Path, ear: Ear
) -> None:
    send(destination, [write_part10(build_cr(), tmp_path / "image.dcm")])
    [kept] = pacs.references()
    assert ask_commitment(destination, uid("transaction"), (kept.sop_class_uid, kept.sop_instance_uid)) == 0x0000
    assert ear.heard.wait(60)
    assert ear.reports == [CommitmentReport(uid("transaction"), (kept.sop_instance_uid,))]


def test_it_does_not_commit_what_it_lost(pacs: DemoPacs, destination: Destination, tmp_path: Path, ear: Ear) -> None:
    send(destination, [write_part10(build_cr(), tmp_path / "image.dcm")])
    [held] = pacs.held()
    held.path.unlink()
    ask_commitment(destination, uid("transaction"), (held.header.sop_class_uid, held.header.sop_instance_uid))
    assert ear.heard.wait(60)
    expected = ((held.header.sop_instance_uid, NO_SUCH_INSTANCE),)
    assert ear.reports == [CommitmentReport(uid("transaction"), (), expected)]


def test_it_refuses_commitment_to_somebody_whose_address_it_does_not_know(pacs: DemoPacs) -> None:
    stranger = Destination("pacs", pacs.ae_title, "127.0.0.1", pacs.port, "STRANGER")
    assert ask_commitment(stranger, uid("transaction"), ("1.2.3", "1.2.3.4")) == 0x0124


def test_it_answers_that_it_cannot_understand_an_object_without_a_study(destination: Destination) -> None:
    ds = build_cr()
    ae = AE(ae_title=US)
    ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    assoc = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    del ds.StudyInstanceUID
    status = assoc.send_c_store(ds)
    assoc.release()
    assert status.Status == 0xC000


# pynetdicom forgets to close the socket of a connection that was refused (AssociationSocket._shutdown_socket).
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_stopping_it_does_not_wait_for_a_requester_that_never_listens(tmp_path: Path) -> None:
    with DemoPacs(tmp_path / "pacs", requesters={US: ("127.0.0.1", 1)}) as pacs:
        destination = Destination("pacs", pacs.ae_title, "127.0.0.1", pacs.port, US)
        ask_commitment(destination, uid("transaction"), ("1.2.3", "1.2.3.4"))
    assert pacs.held() == ()  # leaving the block returned at once: the test's time limit is the measure


def dcmtk(program: str) -> str:
    found = shutil.which(program)
    if found is None or ".venv" in found:
        found = next((str(path) for path in [Path("/usr/bin") / program] if path.exists()), None)
    if found is None:
        if os.environ.get("BONEWATCH_REQUIRE_PEERS") == "1":
            pytest.fail(f"{program} (DCMTK) is not installed")
        pytest.skip(f"{program} (DCMTK) is not installed")
    return found


@pytest.mark.peer
def test_dcmtk_stores_and_finds(pacs: DemoPacs, tmp_path: Path) -> None:
    path = write_part10(build_cr(), tmp_path / "image.dcm")
    call = ["-aet", US, "-aec", pacs.ae_title, "127.0.0.1", str(pacs.port)]
    subprocess.run([dcmtk("echoscu"), *call], check=True, timeout=120)
    subprocess.run([dcmtk("storescu"), *call, str(path)], check=True, timeout=120)
    keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid('study')}", "-k", "AccessionNumber"]
    answer = subprocess.run([dcmtk("findscu"), *keys, *call], check=True, timeout=120, capture_output=True, text=True)
    assert [held.header.sop_instance_uid for held in pacs.held()] == [uid("study", "series", "instance")]
    assert "[TEST0001]" in answer.stdout + answer.stderr
