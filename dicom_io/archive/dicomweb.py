"""An archive that is reached by DICOMweb: QIDO-RS to find, WADO-RS to bring (PS3.18 Sections 8.3, 10.4, 10.6).

Instances are asked for one by one, as they are encoded there: memory is bounded by the largest, and one that cannot be
had does not lose the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.message import Message
from functools import partial
from typing import Any, BinaryIO

from dicomweb_client.api import DICOMwebClient
from dicomweb_client.web import _Transaction
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from requests.exceptions import InvalidJSONError, RequestException
from urllib3.exceptions import HTTPError

from dicom_io.archive.archive import FoundPage, Receive, RetrieveReceipt, StudyNotFound, StudyQuery
from dicom_io.archive.dicomweb_session import BoundedSession, DicomwebServer
from dicom_io.archive.query import Matches, find_page, text_of
from dicom_io.errors import HeaderError, PeerRefused, PeerUnreachable
from dicom_io.header.header import read_header
from dicom_io.network.library_settings import configure_libraries
from dicom_io.network.wire import IncomingDataSet
from dicom_io.receive.reception import SUCCESS, Arrival, arrival_of_part10
from dicom_io.types import Peer
from dicom_io.uids import is_safe_uid

PAGE = 500
MAXIMUM_INSTANCES = 10_000
MAXIMUM_SERIES = 1000


class DicomwebArchive:
    """A DICOMweb server as an archive; implements `dicom_io.archive.archive.Archive`.

    Parameters
    ----------
    server : DicomwebServer
        Where it is.
    spool : callable
        Makes the unnamed file for an instance that is large.
    """

    source = "dicomweb"

    def __init__(self, server: DicomwebServer, spool: Callable[[], BinaryIO]) -> None:
        configure_libraries()
        self._server = server
        self._spool = spool

    @property
    def name(self) -> str:
        """What the site calls it."""
        return self._server.name

    def find(self, query: StudyQuery, limit: int) -> FoundPage:
        """Return the studies that match, `limit` at most."""
        with self._client() as client:
            return find_page(_QidoQuestions(client), query, limit)

    def retrieve(self, study_instance_uid: str, receive: Receive) -> RetrieveReceipt:
        """Bring a study here; see `dicom_io.archive.archive.Archive`."""
        if not is_safe_uid(study_instance_uid):
            raise StudyNotFound(f"{self.name}: what is asked for is not a Study Instance UID")
        completed, troubles = 0, []
        with self._client() as client:
            for series_uid, instance_uid in client.instances(study_instance_uid):
                trouble = self._bring(client, (study_instance_uid, series_uid, instance_uid), receive)
                completed += trouble is None
                troubles += [] if trouble is None else [trouble]
        if completed == 0 and not troubles:
            raise StudyNotFound(f"{self.name} has nothing of this study any more")
        if not troubles:
            return RetrieveReceipt(completed)
        reason = f"{len(troubles)} of {completed + len(troubles)} instances did not arrive: {troubles[0]}"
        return RetrieveReceipt(completed, len(troubles), reason)

    def _bring(self, client: _Client, uids: tuple[str, str, str], receive: Receive) -> str | None:
        """Bring one instance; return in words why it is not here, None where it is."""
        try:
            part10 = client.encoded_instance(*uids)
            arrival = self._arrival(part10, uids)
        except (StudyNotFound, PeerRefused, HeaderError) as error:
            return str(error)
        status = receive(arrival)
        return None if status == SUCCESS else f"it was refused here (0x{status:04X})"

    def _arrival(self, part10: bytes, uids: tuple[str, str, str]) -> Arrival:
        incoming = IncomingDataSet(self._spool, self._server.maximum_instance_bytes)
        peer = Peer("", self._server.url.partition("//")[2].partition("/")[0][:64], self.source)
        arrival = arrival_of_part10(part10, incoming, peer, read_header(part10))
        return replace(arrival, study_instance_uid=uids[0], sop_instance_uid=uids[2])  # those that were asked for

    @contextmanager
    def _client(self) -> Iterator[_Client]:
        """Open a session; what requests raises becomes one of our errors."""
        with BoundedSession(self._server) as session:
            try:
                yield _Client(self._server, session)
            except InvalidJSONError as error:  # one of requests' own, but it did answer
                raise self._unreadable(error) from None
            except (RequestException, HTTPError) as error:
                raise PeerUnreachable(f"{self.name}: no answer ({type(error).__name__})") from None
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                # What the libraries raise for answers that are no JSON or no DICOM JSON.
                raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> PeerRefused:
        return PeerRefused(f"{self.name}: the answer cannot be read ({type(error).__name__})")


class _Client(DICOMwebClient):  # type: ignore[misc]  # the library's types do not reach mypy
    """The library's client, which also hands over an instance as it is encoded."""

    def __init__(self, server: DicomwebServer, session: BoundedSession) -> None:
        super().__init__(server.url, session=session, timeout=server.timeout_seconds, permissive_uid=True)
        # Who asks for a page or a study waits and asks again; the library would sleep here.
        self.set_http_retry_params(retry=False)

    def instances(self, study_instance_uid: str) -> list[tuple[str, str]]:
        """Return Series and SOP Instance UID of every instance of a study, none where it has gone."""
        fields = ["SOPInstanceUID", "SeriesInstanceUID"]
        search = partial(self.search_for_instances, study_instance_uid, fields=fields)
        try:
            answers = _paged(search, fields, MAXIMUM_INSTANCES)
        except StudyNotFound:
            return []
        if not answers.complete:
            raise PeerRefused(f"the study has more than {MAXIMUM_INSTANCES} instances")
        found = [(text_of(each, "SeriesInstanceUID"), text_of(each, "SOPInstanceUID")) for each in answers.data_sets]
        return [(series, instance) for series, instance in found if is_safe_uid(series)]

    def encoded_instance(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bytes:
        """Return a Part 10 file in the transfer syntax that it is kept in (PS3.18 8.7.3.5.2, transfer-syntax=*)."""
        uids = (study_instance_uid, series_instance_uid, sop_instance_uid)
        url = self._get_instances_url(_Transaction.RETRIEVE, *uids)
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        response = self._http_get(url, headers={"Accept": accept}, stream=True)
        content_type = response.headers.get("Content-Type", "")
        if content_type.startswith("application/dicom"):
            return bytes(response.content)  # against the standard, but some servers send the part alone
        return only_part(response.content, content_type)


def only_part(content: bytes, content_type: str) -> bytes:
    """Return the one part of a multipart message (RFC 2046 5.1.1), which must be there to its end.

    Without its last boundary it may have been cut off anywhere: not every answer says how long it is.

    Raises
    ------
    dicom_io.errors.HeaderError
        It is no such message, or has another number of parts.
    """
    words = Message()
    words["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    boundary = words.get_boundary()
    if words.get_content_maintype() != "multipart" or not boundary:
        raise HeaderError("an answer is no multipart message")
    marker = b"--" + boundary.encode()
    start = content.find(marker)
    end = -1 if start < 0 else content.find(b"\r\n" + marker, start)
    if end < 0:
        raise HeaderError("an answer broke off: its last boundary is missing")
    after = end + 2 + len(marker)
    _, blank, part = content[start + len(marker) : end].partition(b"\r\n\r\n")
    if not blank or content[after : after + 2] != b"--":
        raise HeaderError("an answer does not hold one instance")
    return part


class _QidoQuestions:
    """Questions by QIDO-RS; implements `dicom_io.archive.query.Questions`."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def studies(self, keys: dict[str, str], limit: int) -> Matches:
        """Return the answers to a question for studies, `limit` at most."""
        filters = {keyword: value for keyword, value in keys.items() if value}
        search = partial(self._client.search_for_studies, fields=list(keys), search_filters=filters)
        return _paged(search, list(keys), limit)

    def series(self, study_instance_uid: str) -> tuple[Dataset, ...]:
        """Return the answers to a question for all series of a study."""
        fields = ["SeriesInstanceUID", "Modality", "BodyPartExamined"]
        search = partial(self._client.search_for_series, study_instance_uid, fields=fields)
        try:
            return _paged(search, fields, MAXIMUM_SERIES).data_sets
        except StudyNotFound:
            return ()


def _paged(search: Callable[..., list[dict[str, Any]]], keywords: list[str], limit: int) -> Matches:
    """Ask page by page, for a server may send fewer than were asked for (PS3.18 8.3.4.4), until nothing new comes.

    The first keyword is of the UID by which answers are told apart.
    """
    matches: dict[str, Dataset] = {}
    offset = 0
    while len(matches) <= limit:
        answers = search(limit=min(PAGE, limit + 1 - len(matches)), offset=offset)
        offset += len(answers)
        before = len(matches)
        for answer in answers[: limit + 1]:
            ds = _data_set(answer, keywords)
            uid = text_of(ds, keywords[0])
            if is_safe_uid(uid):
                matches.setdefault(uid, ds)
        if len(matches) == before:
            break
    kept = tuple(matches.values())
    return Matches(kept[:limit], len(kept) <= limit)


def _data_set(answer: dict[str, Any], keywords: list[str]) -> Dataset:
    """Read of an answer in DICOM JSON (PS3.18 Annex F) what was asked for; what is malformed is left out."""
    ds = Dataset()
    for keyword in keywords:
        element = answer.get(f"{tag_for_keyword(keyword):08X}") or {}
        values = [str(value) for value in element.get("Value") or () if value is not None]
        with suppress(ValueError, TypeError, OverflowError):
            setattr(ds, keyword, values)
    return ds
