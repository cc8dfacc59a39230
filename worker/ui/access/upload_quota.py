"""How much may lie at Streamlit's upload address, which bounds each file but not their sum.

It is posted to directly as well, so the widget's own counting binds nobody. A file that has no room is refused before a
byte of it is read; room is free again when a file is taken away, and soon after its page was closed
(`worker.ui.access.stale_sessions`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import runtime

from worker.ui.access.login import NAME_HEADER

UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/([^/]+)/?")
Held = Mapping[str, Mapping[str, int]]
"""Bytes by session and file: what lies there."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may lie there: `files` of one session (one open page), `total_bytes` of one person's sessions.

    `file_bytes` is the most that a single file may have.
    """

    files: int
    file_bytes: int

    @property
    def total_bytes(self) -> int:
        """As many as the largest files of a session have together."""
        return self.files * self.file_bytes


@dataclass(frozen=True, slots=True)
class _Upload:
    session: str
    file: str
    size: int


@dataclass
class UploadQuota:
    """ASGI middleware behind the door: refuses an upload (413) that has no room beside what lies there and arrives."""

    app: ASGIApp
    quota: Quota
    held: Callable[[], Held]
    _arriving: dict[object, _Upload] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        found = UPLOAD.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        coming = _Upload(found[1], found[2], self._announced(headers))
        refusal = self._refusal(coming, headers.get(NAME_HEADER, ""))
        if refusal is not None:
            await PlainTextResponse(refusal, 413)(scope, receive, send)
            return
        key = object()
        self._arriving[key] = coming
        try:
            await self.app(scope, receive, send)
        finally:
            del self._arriving[key]

    def _announced(self, headers: Headers) -> int:
        """Return how large it says it is, and the most that it may be where it does not say."""
        length = headers.get("content-length", "")
        # Of a request with both, the server reads the chunks and leaves the length standing.
        says_size = "transfer-encoding" not in headers and length.isdecimal() and len(length) < 20
        return int(length) if says_size else self.quota.file_bytes

    def _refusal(self, coming: _Upload, name: str) -> str | None:
        # One event loop serves all requests, and nothing is awaited here: no other upload comes in between.
        here = [_Upload(session, file, size) for session, files in self.held().items() for file, size in files.items()]
        # A file that is sent again takes the place of the one that lies there, but two that arrive are two.
        others = [each for each in here if (each.session, each.file) != (coming.session, coming.file)]
        others += self._arriving.values()
        open_sessions = {each.session for each in (*here, *others, coming)}
        self._owners = {session: owner for session, owner in self._owners.items() if session in open_sessions}
        self._owners.setdefault(coming.session, name)
        if sum(each.session == coming.session for each in others) >= self.quota.files:
            return f"{self.quota.files} files are here already: take some away first"
        together = sum(each.size for each in others if self._owners.get(each.session) == name)
        if together + coming.size > self.quota.total_bytes:
            return "your files are too large together: take some away first, here and on other pages that are open"
        return None


def held_by_streamlit() -> Held:
    """Return what Streamlit holds of all sessions."""
    manager: Any = runtime.get_instance().uploaded_file_mgr
    return {
        session: {file: len(record.data) for file, record in list(files.items())}
        for session, files in list(manager.file_storage.items())
    }
