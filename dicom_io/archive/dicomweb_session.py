"""The HTTP of a DICOMweb archive, bounded in bytes and in time, whatever the other side sends.

A time-out of a socket bounds each silence and nothing else: a byte now and then, headers or trailers without end, and
compressed nothing would keep us for ever. So httpx asks, in a task that is cancelled when the time is over.
"""

from __future__ import annotations

import time
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import requests
from anyio.from_thread import start_blocking_portal

from dicom_io.archive.archive import StudyNotFound
from dicom_io.errors import PeerBusy, PeerError, PeerRefused, PeerUnreachable

MAXIMUM_ANSWER_BYTES = 1 << 25
"""Of one answer to a query, decompressed."""
MAXIMUM_INSTANCE_BYTES = 1 << 27
"""Of one instance, whatever else the site allows: it is held in memory."""
CHUNK_BYTES = 1 << 18
CODINGS = ("identity", "gzip", "x-gzip", "deflate")
ZLIB_OR_GZIP = 47  # the header says which (RFC 1950, 1952)
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

    To the library it is a session of requests. Its time begins when it is made; it is to be closed. PeerUnreachable
    where the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, server: DicomwebServer) -> None:
        super().__init__()
        self._server = server
        self._ends = time.monotonic() + server.total_seconds
        self._headers = {"User-Agent": "bonewatch", "Accept-Encoding": "identity"}
        auth = None
        if server.token is not None:
            self._headers["Authorization"] = f"Bearer {server.token}"
        elif server.user is not None:
            auth = httpx2.BasicAuth(server.user.encode(), (server.password or "").encode())
        # Redirections are not followed: a token must not go where the site did not say.
        try:
            client = httpx2.AsyncClient(auth=auth, timeout=server.timeout_seconds, follow_redirects=False)
        except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
            # The name alone: a proxy's address may hold a password.
            raise PeerUnreachable(
                f"{server.name} cannot be asked: the proxy or the certificates that the environment names "
                f"(HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE) cannot be used ({type(error).__name__})"
            ) from None
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._client = stack.enter_context(self._portal.wrap_async_context_manager(client))
            self._open = stack.pop_all()

    def close(self) -> None:
        """Let go of connections and of the thread that asks."""
        self._open.close()
        super().close()

    def get(self, url: Any, **arguments: Any) -> requests.Response:  # type: ignore[override]  # fewer, as it is called
        """Ask, as the library does."""
        headers = {**(arguments.get("headers") or {}), **self._headers}
        headers.pop("Host", None)  # the library leaves the port out
        most = MAXIMUM_ANSWER_BYTES
        if "multipart" in headers.get("Accept", ""):
            most = min(MAXIMUM_INSTANCE_BYTES, self._server.maximum_instance_bytes)
        request = self._client.build_request("GET", url, params=arguments.get("params"), headers=headers)
        try:
            return self._portal.call(self._ask, request, most)
        except TimeoutError as error:
            raise PeerUnreachable(
                f"{self._server.name} had not ended within {self._server.total_seconds:g} s what we asked for"
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError, zlib.error) as error:
            raise requests.ConnectionError(type(error).__name__) from error

    async def _ask(self, request: httpx2.Request, most: int) -> requests.Response:
        with anyio.fail_after(max(0.0, self._ends - time.monotonic())):
            answer = await self._client.send(request, stream=True)
            try:
                self._require_success(answer.status_code)
                response = requests.Response()
                response.status_code, response.url = answer.status_code, str(answer.url)
                response.headers.update(answer.headers)
                response._content = await self._read(answer, most)  # where requests itself keeps what it has read
            finally:
                await answer.aclose()
        return response

    async def _read(self, answer: httpx2.Response, most: int) -> bytes:
        """Read a body, decompressed piece by piece: what a few bytes become may be more than memory holds."""
        coding = answer.headers.get("Content-Encoding", "identity").lower()
        if coding not in CODINGS:
            raise PeerRefused(
                f"{self._server.name} sends an answer that is compressed in a way that we did not ask for"
            )
        packed = zlib.decompressobj(ZLIB_OR_GZIP) if coding != "identity" else None
        body = bytearray()
        async for piece in answer.aiter_raw(CHUNK_BYTES):
            body += packed.decompress(piece, most + 1 - len(body)) if packed else piece
            if len(body) > most:
                raise PeerRefused(f"{self._server.name} sends more than {most} bytes in one answer")
        if packed and not packed.eof:
            raise zlib.error("the compressed body is cut short")
        return bytes(body)

    def _require_success(self, status: int) -> None:
        if status in (200, 204, 206):
            return
        error: type[PeerError] = PeerRefused
        if status in GONE:
            error = StudyNotFound
        elif status in BUSY:
            error = PeerBusy
        words = STATUS_WORDS.get(status, "it redirects: set the address that it names" if status // 100 == 3 else "")
        raise error(f"{self._server.name} answered with HTTP status {status}{': ' if words else ''}{words}")
