"""A web server on loopback that answers as it is told, byte for byte, for as long as somebody reads."""

from __future__ import annotations

import itertools
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from tests.peers import LOOPBACK

Script = Callable[["HostileWeb", str], Iterator[bytes]]
"""Makes the pieces of the answer to a path with its query."""


class HostileWeb:
    """What was asked of it stands in `requests`, headers and all; `stopped` ends answers that have no end."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[str] = []
        self.stopped = threading.Event()
        self._server = socketserver.ThreadingTCPServer((LOOPBACK, 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        web = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    web.answer(self.request)

        return Handler

    def answer(self, connection: socket.socket) -> None:
        """Read one request and send the script's answer to it."""
        connection.settimeout(30)
        request = b""
        while b"\r\n\r\n" not in request:
            received = connection.recv(65536)
            if not received:
                return
            request += received
        head = request.decode("latin-1")
        self.requests.append(head)
        for piece in self.script(self, head.split(" ")[1]):
            if self.stopped.is_set():
                return
            connection.sendall(piece)

    def drip(self, text: bytes, every: float = 0.1) -> Iterator[bytes]:
        """Give a text byte by byte, over and over."""
        for byte in itertools.cycle(text):
            if self.stopped.wait(every):
                return
            yield bytes([byte])

    def __enter__(self) -> HostileWeb:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def answer(body: bytes, content_type: str = "application/dicom+json", status: str = "200 OK", more: str = "") -> bytes:
    """Return a whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    head += f"Connection: close\r\n{more}\r\n"
    return head.encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """Return a chunk of a chunked body (RFC 9112 7.1)."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
