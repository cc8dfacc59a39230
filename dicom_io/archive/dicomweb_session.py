"""The HTTP of a DICOMweb archive, bounded in bytes and in time, whatever the other side sends.

A time-out of a socket bounds each silence and nothing else: a byte now and then, headers or trailers without end, and
compressed nothing would keep us for ever. So the connections themselves are cut when the time is over.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from dicom_io.archive.archive import StudyNotFound
from dicom_io.errors import PeerBusy, PeerError, PeerRefused, PeerUnreachable

MAXIMUM_ANSWER_BYTES = 1 << 25
"""Of one answer to a query, decompressed."""
MAXIMUM_INSTANCE_BYTES = 1 << 27
"""Of one instance, whatever else the site allows: it is held in memory."""
CHUNK_BYTES = 1 << 18
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


class BoundedSession(requests.Session):
    """Reads an answer whole, within limits of size and time, and turns statuses into our errors.

    Its time begins when it is made. Close it, or the connections that it has opened wait for the end of that time.
    """

    def __init__(self, server: DicomwebServer) -> None:
        super().__init__()
        self._server = server
        self._deadline = _Deadline(server.total_seconds)
        self.mount("http://", _CutAdapter(self._deadline))
        self.mount("https://", _CutAdapter(self._deadline))
        self.headers["User-Agent"] = "bonewatch"
        self.auth = self._sign

    def close(self) -> None:
        """Let go of connections and of the clock."""
        self._deadline.close()
        super().close()

    def get(self, url: Any, **arguments: Any) -> requests.Response:  # type: ignore[override]  # fewer, as it is called
        """Ask, as the library does; redirections are not followed: a token must not go where the site did not say."""
        headers = {**(arguments.get("headers") or {}), "Accept-Encoding": "identity"}
        headers.pop("Host", None)  # the library leaves the port out
        arguments |= {"headers": headers, "stream": True, "allow_redirects": False}
        most = MAXIMUM_ANSWER_BYTES
        if "multipart" in headers.get("Accept", ""):
            most = min(MAXIMUM_INSTANCE_BYTES, self._server.maximum_instance_bytes)
        self._require_time()
        try:
            response = super().get(url, **arguments)
            with response:
                self._require_success(response)
                response._content = self._read(response, most)  # where requests itself keeps what it has read
        except (RequestException, HTTPError):
            self._require_time()
            raise
        self._require_time()  # a connection that was cut looks like the end of an answer that does not say its length
        return response

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Name no target: requests would read a redirection's body, without a bound, though it does not follow."""
        return None

    def _read(self, response: requests.Response, most: int) -> bytes:
        body = bytearray()
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > most:
                raise PeerRefused(f"{self._server.name} sends more than {most} bytes in one answer")
        return bytes(body)

    def _require_time(self) -> None:
        if self._deadline.is_over:
            raise PeerUnreachable(
                f"{self._server.name} had not ended within {self._server.total_seconds:g} s what we asked for"
            )

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


class _Deadline:
    """Cuts the connections that it was shown once its time is over; who reads from one meets its end."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connection: socket.socket) -> None:
        """Take a connection into account, by a descriptor of its own: TLS takes the first one over."""
        with self._lock:
            self._connections.append(connection.dup())
        if self.is_over:
            self._cut()

    def close(self) -> None:
        """Cut nothing any more."""
        self._timer.cancel()
        with self._lock:
            while self._connections:
                self._connections.pop().close()

    def _cut(self) -> None:
        with self._lock:
            self.is_over = True
            for connection in self._connections:
                with suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RDWR)


class _CutAdapter(HTTPAdapter):
    """Shows every connection that it opens, to the server or to a proxy, to a deadline."""

    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*arguments, **named)
        self._watch_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        """Return the pools of connections to a proxy."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **named)
        if is_new:
            self._watch_pools(manager)
        return manager

    def _watch_pools(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: self._watched(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _watched(self, pool: Any) -> Any:
        deadline = self._deadline

        class Connection(pool.ConnectionCls):  # type: ignore[misc]  # a library's class, known only here
            def _new_conn(self) -> socket.socket:
                opened: socket.socket = super()._new_conn()
                deadline.watch(opened)
                return opened

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
