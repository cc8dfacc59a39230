"""A small PACS for the demonstration and for tests: it receives, keeps, finds, and commits like a real one.

It answers C-ECHO, C-STORE and C-FIND, and storage commitment the way Orthanc does: N-ACTION is answered at once, and
the N-EVENT-REPORT follows on an association of its own, to the address that this PACS knows for the requester. It
commits an instance only when the file lies in its folder. It is no archive: what it knows is gone when it stops.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    _config,
    build_context,
    build_role,
    evt,
)
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_io.errors import HeaderError, StoreError
from dicom_io.header.header import read_header
from dicom_io.network.association import ClosingAE
from dicom_io.send.commitment import ALL_COMMITTED, FAILURES_EXIST
from dicom_io.store.folder import InstanceStore
from dicom_io.types import InstanceHeader, ReportReference
from dicom_io.uids import is_valid_uid

SUCCESS = 0x0000
PENDING = 0xFF00
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
MISMATCH = 0xA900
INVALID_ARGUMENT = 0x0115
NOT_AUTHORIZED = 0x0124
NO_SUCH_INSTANCE = 0x0112
"""Statuses and failure reasons: PS3.4 B.2.3 and J.3.2, PS3.7 Annex C, PS3.3 C.14.1.1."""
REPORT_ATTEMPTS = 20
REPORT_INTERVAL_SECONDS = 0.5
LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
"""Query/Retrieve levels of the Study Root model and their unique keys (PS3.4 C.6.2)."""


@dataclass(frozen=True, slots=True)
class Held:
    """An instance that the PACS keeps, and its file."""

    header: InstanceHeader
    path: Path


class DemoPacs:
    """The PACS. Use it as a context manager, or `start` and `stop` it.

    Parameters
    ----------
    folder : Path
        Where it keeps what it got.
    ae_title, host, port
        Where it listens; port 0 takes a free one, see `port`.
    requesters : mapping of str to (str, int)
        Host and port of the AEs that may ask for commitment, by AE title: the answer is sent there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "DEMOPACS",
        host: str = "127.0.0.1",
        port: int = 0,
        requesters: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self.ae_title = ae_title
        self.host = host
        self.requesters = dict(requesters or {})
        self._wanted_port = port
        self._store = InstanceStore(folder)
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()
        self._server: Any = None
        self._reporters: ThreadPoolExecutor | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> DemoPacs:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port on which it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        OSError
            When the port is taken.
        """
        # pynetdicom's log would hold whole data sets otherwise.
        _config.LOG_REQUEST_IDENTIFIERS = False
        _config.LOG_RESPONSE_IDENTIFIERS = False
        ae = AE(ae_title=self.ae_title)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        for sop_class in (Verification, StudyRootQueryRetrieveInformationModelFind, StorageCommitmentPushModel):
            ae.add_supported_context(sop_class)
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_N_ACTION, self._on_action),
        ]
        self._reporters = ThreadPoolExecutor(max_workers=4, thread_name_prefix="demo-pacs-commitment")
        self._server = ae.start_server((self.host, self._wanted_port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """End all associations, give up reports of commitment that could not be delivered, close the port."""
        self._stopping.set()
        if self._server is not None:
            self._server.ae.shutdown()
        if self._reporters is not None:
            self._reporters.shutdown(wait=True, cancel_futures=True)

    def held(self) -> tuple[Held, ...]:
        """Return what it keeps now, in the order of arrival."""
        with self._lock:
            return tuple(self._held.values())

    def references(self) -> tuple[ReportReference, ...]:
        """Return what it keeps now, by class and instance."""
        headers = (each.header for each in self.held())
        return tuple(
            ReportReference(
                each.sop_class_uid, each.sop_instance_uid, each.series_instance_uid, each.study_instance_uid
            )
            for each in headers
        )

    def _on_store(self, event: evt.Event) -> int:
        part10 = event.encoded_dataset()
        try:
            header = read_header(part10)
            if header.sop_instance_uid != event.request.AffectedSOPInstanceUID:
                return MISMATCH
            stored = self._store.put(part10, header)
        except HeaderError:
            return CANNOT_UNDERSTAND
        except StoreError:
            return OUT_OF_RESOURCES
        with self._lock:
            self._held[header.sop_instance_uid] = Held(header, self._store.path(stored.path))
        return SUCCESS

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Match unique keys only, and answer with whatever attributes were asked for (PS3.4 C.4.1)."""
        query = event.identifier
        level = str(query.get("QueryRetrieveLevel", ""))
        if level not in LEVELS:
            yield MISMATCH, None
            return
        answered: set[str] = set()
        for held in self.held():
            ds = dcmread(held.path, stop_before_pixels=True)
            key = str(ds.get(LEVELS[level], ""))
            if key in answered or not _matches(query, ds):
                continue
            answered.add(key)
            yield PENDING, _answer(query, ds)

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        """Take a commitment request (PS3.4 J.3.2) and answer it from another thread."""
        requester = event.assoc.requestor.ae_title
        if requester not in self.requesters:
            return NOT_AUTHORIZED, None
        request = event.action_information
        if not is_valid_uid(str(request.get("TransactionUID", ""))) or not request.get("ReferencedSOPSequence"):
            return INVALID_ARGUMENT, None
        if self._reporters is not None:
            self._reporters.submit(self._report, requester, request)
        return SUCCESS, None

    def _report(self, requester: str, request: Dataset) -> None:
        """Tell the requester what is kept for good, until it listens."""
        with self._lock:
            kept = {uid: held.header.sop_class_uid for uid, held in self._held.items() if held.path.is_file()}
        report, event_type = _event_report(request, kept)
        for _ in range(REPORT_ATTEMPTS):
            if self._send_report(requester, report, event_type) or self._stopping.wait(REPORT_INTERVAL_SECONDS):
                return

    def _send_report(self, requester: str, report: Dataset, event_type: int) -> bool:
        host, port = self.requesters[requester]
        ae = ClosingAE(ae_title=self.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 10
        # We call, yet we stay the provider of the service: the role says so (PS3.7 D.3.3.4).
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        assoc = ae.associate(
            host, port, [build_context(StorageCommitmentPushModel)], ae_title=requester, ext_neg=[role]
        )
        if not assoc.is_established:
            ae.close_socket()
            return False
        try:
            status, _ = assoc.send_n_event_report(
                report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except (RuntimeError, ValueError):  # aborted meanwhile; or the role was not accepted
            return False
        finally:
            if assoc.is_established:
                assoc.release()
            ae.close_socket()
        return bool(status.get("Status") == SUCCESS)


def _matches(query: Dataset, ds: Dataset) -> bool:
    """Compare the unique keys; an empty one matches everything, a list matches any of its UIDs (PS3.4 C.2.2.2)."""
    for keyword in LEVELS.values():
        wanted = query.get(keyword)
        if not wanted:
            continue
        listed = [wanted] if isinstance(wanted, str) else list(wanted)
        if str(ds.get(keyword, "")) not in listed:
            return False
    return True


def _answer(query: Dataset, ds: Dataset) -> Dataset:
    answer = Dataset()
    for element in query:
        keyword = element.keyword
        if keyword == "QueryRetrieveLevel" or not keyword:
            continue
        setattr(answer, keyword, ds.get(keyword, None))
    answer.QueryRetrieveLevel = query.QueryRetrieveLevel
    if "SpecificCharacterSet" in ds:
        answer.SpecificCharacterSet = ds.SpecificCharacterSet
    return answer


def _event_report(request: Dataset, kept: Mapping[str, str]) -> tuple[Dataset, int]:
    """Build the Event Information (PS3.4 Table J.3-2) for a request, from class and instance of what is kept."""
    committed, failed = [], []
    for wanted in request.ReferencedSOPSequence:
        item = Dataset()
        item.ReferencedSOPClassUID = wanted.ReferencedSOPClassUID
        item.ReferencedSOPInstanceUID = wanted.ReferencedSOPInstanceUID
        if kept.get(str(wanted.ReferencedSOPInstanceUID)) == str(wanted.ReferencedSOPClassUID):
            committed.append(item)
        else:
            item.FailureReason = NO_SUCH_INSTANCE
            failed.append(item)
    report = Dataset()
    report.TransactionUID = UID(str(request.TransactionUID))
    if committed:
        report.ReferencedSOPSequence = committed
    if failed:
        report.FailedSOPSequence = failed
    return report, FAILURES_EXIST if failed else ALL_COMMITTED
