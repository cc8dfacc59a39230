"""An archive that is reached by DICOMweb: QIDO-RS to find, WADO-RS to bring (PS3.18 Sections 8.3, 10.4, 10.6).

Instances are asked for one by one, as they are encoded there: memory is bounded by the largest, and one that cannot be
had does not lose the others.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.web import _Transaction
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from requests.auth import HTTPBasicAuth
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from dicom_io.archive import FoundPage, Receive, RetrieveReceipt, StudyNotFound, StudyQuery
from dicom_io.errors import HeaderError, PeerBusy, PeerError, PeerRefused, PeerUnreachable
from dicom_io.header import read_header
from dicom_io.library_settings import configure_libraries
from dicom_io.query import Matches, find_page, text_of
from dicom_io.reception import SUCCESS, Arrival, arrival_of_part10
from dicom_io.types import Peer
from dicom_io.uids import is_safe_uid
from dicom_io.wire import IncomingDataSet

MAXIMUM_ANSWER_BYTES = 1 << 25
"""Of one answer to a query, decompressed."""
MAXIMUM_INSTANCE_BYTES = 1 << 27
"""Of one instance, whatever else the site allows: it is held in memory."""
CHUNK_BYTES = 1 << 18
PAGE = 500
MAXIMUM_INSTANCES = 10_000
MAXIMUM_SERIES = 1000
GONE = (404, 410)
BUSY = (408, 429, 500, 502, 503, 504)
STATUS_WORDS = {
    400: "it does not understand the question",
    401: "it wants other credentials",
    403: "it does not authorise us",
    404: "it knows no such resource",
    406: "it cannot send what it has as it is encoded",
    429: "it is asked too often",
    503: "it is out of service for now",
}


@dataclass(frozen=True, slots=True)
class DicomwebServer:
    """Where it is and how we show who we are: a bearer token, a user's name and password, or nothing.

    `timeout_seconds` bounds connecting and each silence, `total_seconds` one page of a query and one retrieval.
    """

    name: str
    url: str
    timeout_seconds: float
    total_seconds: float
    maximum_instance_bytes: int
    token: str | None = None
    user: str | None = None
    password: str | None = None


class DicomwebArchive:
    """A DICOMweb server as an archive; implements `dicom_io.archive.Archive`.

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
        """Bring a study here; see `dicom_io.archive.Archive`."""
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
        sop_class_uid = read_header(io.BytesIO(part10)).sop_class_uid
        peer = Peer("", self._server.url.partition("//")[2].partition("/")[0][:64], self.source)
        return arrival_of_part10(part10, incoming, (sop_class_uid, uids[2]), peer, uids[0])

    @contextmanager
    def _client(self) -> Iterator[_Client]:
        """Open a session; what requests raises becomes one of our errors."""
        with _BoundedSession(self._server) as session:
            try:
                yield _Client(self._server, session)
            except (RequestException, HTTPError) as error:
                raise PeerUnreachable(f"{self.name}: no answer ({type(error).__name__})") from None
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                # What the libraries raise for answers that are no JSON, no DICOM JSON or no multipart message.
                raise PeerRefused(f"{self.name}: the answer cannot be read ({type(error).__name__})") from None


class _Client(DICOMwebClient):  # type: ignore[misc]  # the library's types do not reach mypy
    """The library's client, which also hands over an instance as it is encoded."""

    def __init__(self, server: DicomwebServer, session: _BoundedSession) -> None:
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
        if response.headers.get("Content-Type", "").startswith("application/dicom"):
            return bytes(response.content)  # against the standard, but some servers send the part alone
        parts = list(self._decode_multipart_message(response, stream=False))
        if len(parts) != 1:
            raise HeaderError("an answer does not hold one instance")
        return bytes(parts[0])


class _QidoQuestions:
    """Questions by QIDO-RS; implements `dicom_io.query.Questions`."""

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


class _BoundedSession(requests.Session):
    """Reads an answer whole, within limits of size and time, and turns statuses into our errors."""

    def __init__(self, server: DicomwebServer) -> None:
        super().__init__()
        self._server = server
        self._deadline = time.monotonic() + server.total_seconds
        self.headers["User-Agent"] = "bonewatch"
        self.auth = self._sign

    def get(self, url: Any, **arguments: Any) -> requests.Response:  # type: ignore[override]  # fewer, as it is called
        """Ask, as the library does; redirections are not followed: a token must not go where the site did not say."""
        headers = {**(arguments.get("headers") or {}), "Accept-Encoding": "identity"}
        headers.pop("Host", None)  # the library leaves the port out
        arguments |= {"headers": headers, "stream": True, "allow_redirects": False}
        response = super().get(url, **arguments)
        with response:
            self._require_success(response)
            most = MAXIMUM_ANSWER_BYTES
            if "multipart" in headers.get("Accept", ""):
                most = min(MAXIMUM_INSTANCE_BYTES, self._server.maximum_instance_bytes)
            response._content = self._read(response, most)  # where requests itself keeps what it has read
        return response

    def _read(self, response: requests.Response, most: int) -> bytes:
        body = bytearray()
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > most:
                raise PeerRefused(f"{self._server.name} sends more than {most} bytes in one answer")
            if time.monotonic() > self._deadline:
                raise PeerUnreachable(
                    f"{self._server.name} had not ended within {self._server.total_seconds:g} s what we asked for"
                )
        return bytes(body)

    def _require_success(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (200, 204, 206):
            return
        error: type[PeerError] = PeerRefused
        if status in GONE:
            error = StudyNotFound
        elif status in BUSY:
            error = PeerBusy
        words = STATUS_WORDS.get(status, "it redirects: set the address that it names" if status // 100 == 3 else "")
        raise error(f"{self._server.name} answered with HTTP status {status}{': ' if words else ''}{words}")

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        server = self._server
        if server.token is not None:
            request.headers["Authorization"] = f"Bearer {server.token}"
        elif server.user is not None:
            HTTPBasicAuth(server.user.encode(), (server.password or "").encode())(request)
        return request


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
