"""Streamlit's programs for the browser: served packed, out of memory, and named before the browser finds out by itself.

The page of the login names them too, so that they come while a person types.

A browser that was never here fetches a hundred of them before the worklist stands. Streamlit reads each anew for each
visitor, several threads a file, and does not pack them; half of them the browser would ask for only when the first
elements arrive. Nothing of Streamlit's is changed: what is not served here, it serves.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit
import structlog
from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

FOLDER = Path(streamlit.__file__).with_name("static")
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
# Each name holds the digits of its content.
FOR_EVER = "public, immutable, max-age=31536000"
# A weight of nought, RFC 9110, 12.4.2.
REFUSED = re.compile(r"gzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.IGNORECASE)
WORKLIST = ("BidiComponent", "Button", "ButtonGroup", "Checkbox", "DateInput", "Html", "TextInput")
"""The parts of Streamlit that the worklist is made of, as Streamlit's manifest calls them."""
START = "index.html"
ROOT = b'<div id="root">'
# React takes it away when it draws for the first time.
WAITING = ROOT + (
    b"<style>:root { color-scheme: light dark }</style><noscript><style>#root { display: none }</style></noscript>"
    b'<p role="status" style="margin: 4rem 1.5rem; font-family: system-ui, sans-serif">'
    b"bonewatch: the worklist is on its way.</p>"
)


class Assets:
    """Streamlit's scripts and styles, packed when they are first asked for and then kept: some megabytes for all."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = (file for file in folder.joinpath("static").rglob("*") if file.suffix in TYPES)
        self._files = {f"/{file.relative_to(folder).as_posix()}": file for file in found}
        self._packed: dict[str, bytes] = {}
        first, later = _scripts(folder)
        self._first = [f"/{name}" for name in (*first, *later)]
        # From the root: the login's page stands at /login/return, too.
        self.hints = "".join(f'<link rel="modulepreload" crossorigin href="{path}">' for path in self._first).encode()
        """What stands in the head of the login and of the worklist: the browser then fetches all at once."""

    def __contains__(self, path: object) -> bool:
        """Say whether this is the path of one."""
        return path in self._files

    async def get(self, path: str) -> bytes:
        """Return one of them, compressed by gzip."""
        kept = self._packed.get(path)
        return kept if kept is not None else await to_thread.run_sync(self._pack, path)

    async def prepare(self) -> None:
        """Pack what the first visitor will ask for."""
        for path in self._first:
            if path in self:
                await self.get(path)

    def _pack(self, path: str) -> bytes:
        packed = gzip.compress(self._files[path].read_bytes(), 6, mtime=0)
        self._packed[path] = packed
        return packed


@dataclass
class AssetServer:
    """ASGI middleware behind the door: answers for assets, and puts hints and first rows into the worklist's page."""

    app: ASGIApp
    assets: Assets
    first_rows: Callable[[Scope], Awaitable[bytes]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
        elif scope["path"] == "/":
            rows = await self.first_rows(scope)
            await self.app(_unconditional(scope), receive, _Filling(send, self.assets.hints, rows + WAITING))
        elif scope["path"] in self.assets and _takes_packed(Headers(scope=scope)):
            await _response(scope["path"], await self.assets.get(scope["path"]))(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _takes_packed(headers: Headers) -> bool:
    accepted = headers.get("accept-encoding", "")
    return "gzip" in accepted and not REFUSED.search(accepted) and "range" not in headers


def _unconditional(scope: Scope) -> Scope:
    """Ask for the whole page: what a browser has kept of it may hold other hints."""
    conditions = (b"if-none-match", b"if-modified-since", b"if-range", b"range")
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in conditions]}


def _response(path: str, content: bytes) -> Response:
    headers = {
        "Content-Type": TYPES[Path(path).suffix],
        "Content-Encoding": "gzip",
        "Vary": "Accept-Encoding",
        "Cache-Control": FOR_EVER,
    }
    return Response(content, headers=headers)


class _Filling:
    """Sends a response on; into a page it puts the hints, and what there is to look at while the scripts come."""

    def __init__(self, send: Send, hints: bytes, root: bytes) -> None:
        self._send = send
        self._hints = hints
        self._root = root
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_page(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        body = self._body.replace(b"</head>", self._hints + b"</head>", 1).replace(ROOT, self._root, 1)
        headers = MutableHeaders(scope=start)
        headers["Content-Length"] = str(len(body))
        for of_the_file in ("ETag", "Last-Modified", "Accept-Ranges"):
            del headers[of_the_file]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _is_page(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    is_html = headers.get("content-type", "").startswith("text/html")
    return start["status"] == 200 and is_html and "content-encoding" not in headers


def _scripts(folder: Path) -> tuple[list[str], list[str]]:
    """Return the scripts that every page begins with, and what the worklist needs beyond: none if none are named."""
    try:
        manifest = json.loads(folder.joinpath("manifest.json").read_text(encoding="utf-8"))
        first = list(dict.fromkeys(_with_imports(manifest, START)))
        parts = [key for key, part in manifest.items() if part.get("isDynamicEntry") and part.get("name") in WORKLIST]
        later = list(dict.fromkeys(file for key in parts for file in _with_imports(manifest, key)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("no scripts are named beforehand: Streamlit's manifest reads otherwise", error=type(error).__name__)
        return [], []
    return first, [file for file in later if file not in first]


def _with_imports(manifest: Mapping[str, Any], key: str) -> Iterator[str]:
    waiting, seen = [key], set()
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        yield manifest[here]["file"]
        waiting += manifest[here].get("imports", [])
