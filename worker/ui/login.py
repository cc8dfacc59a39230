"""The door of the page: nothing behind it answers anybody who has not logged in, the WebSocket included.

Who looks is told to the Streamlit script in two headers that are set here, after what a client sent of them is dropped.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.ui.people import People, Person

NAME_HEADER, ROLE_HEADER = "x-bonewatch-name", "x-bonewatch-role"
OPEN_PATHS = ("/login", "/logout", "/_stcore/health")
LONGEST_FORM_BYTES = 10_000
SECURITY_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bonewatch: log in</title><style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5 }
main { max-width: 22rem; margin: 12vh auto; padding: 0 1rem } h1 { font-size: 1.5rem }
label { display: block; margin-top: 1rem } input { width: 100%; padding: .6rem; font: inherit; box-sizing: border-box }
button { margin-top: 1.5rem; padding: .6rem 1.2rem; font: inherit; width: 100% }
[role=alert] { border-left: .3rem solid #c62828; padding: .2rem .8rem }
</style></head><body><main><h1>bonewatch</h1><p>Decision support, never a diagnosis.</p>__ALERT__
<form method="post" action="/login"><input type="hidden" name="next" value="__NEXT__">
<label for="name">Name</label><input id="name" name="name" autocomplete="username" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button></form></main></body></html>"""


@dataclass
class Door:
    """ASGI middleware behind a session: lets through who has logged in, or everybody where no login is wanted."""

    app: ASGIApp
    people: People | None
    told: Callable[[str, str], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path, person = scope["path"], self._person(scope)
        if scope["type"] == "http" and self.people is not None and path in ("/login", "/logout"):
            response = await self._log_in_or_out(Request(scope, receive))
            await response(scope, receive, _hardened(send))
        elif person is not None or path == "/_stcore/health":
            _name_visitor(scope, person)
            await self.app(scope, receive, _hardened(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _away(scope)(scope, receive, _hardened(send))

    def _person(self, scope: Scope) -> Person | None:
        if self.people is None:
            return Person("local", "operator")
        name = HTTPConnection(scope).session.get("name")
        return self.people.find(name) if isinstance(name, str) else None

    async def _log_in_or_out(self, request: Request) -> Response:
        if request.url.path == "/logout":
            request.session.clear()
            return RedirectResponse("/login", 303)
        if request.method == "GET":
            return _page(request.query_params.get("next", "/"))
        if request.method != "POST":
            return PlainTextResponse("not allowed", 405)
        if int(request.headers.get("content-length", "0") or 0) > LONGEST_FORM_BYTES:
            return PlainTextResponse("too much", 413)
        async with request.form(max_files=0, max_fields=5) as form:
            name, password, after = (str(form.get(key, "")) for key in ("name", "password", "next"))
        return await self._log_in(request, name, password, after)

    async def _log_in(self, request: Request, name: str, password: str, after: str) -> Response:
        assert self.people is not None  # noqa: S101 - the caller looked
        if (wait := self.people.seconds_to_wait(name)) > 0:
            return _page(after, f"Too many attempts: wait {wait:.0f} seconds.", 429)
        person = await run_in_threadpool(self.people.check, name, password)
        if person is None:
            self.told("page_login_failed", "")
            return _page(after, "Name or password is wrong.", 401)
        request.session.clear()
        request.session["name"] = person.name
        self.told("page_login", person.name)
        return RedirectResponse(_inside(after), 303)


def _page(after: str, alert: str | None = None, status: int = 200) -> HTMLResponse:
    words = f'<p role="alert">{html.escape(alert)}</p>' if alert else ""
    return HTMLResponse(PAGE.replace("__ALERT__", words).replace("__NEXT__", html.escape(_inside(after))), status)


def _inside(address: str) -> str:
    """Return an address of this page, whatever was asked for: a login must not lead elsewhere."""
    parts = urlsplit(address)
    inside = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return address if inside and address.isprintable() else "/"


def _away(scope: Scope) -> Response:
    if scope["method"] != "GET" or scope["path"].startswith("/_stcore"):
        return PlainTextResponse("log in first", 401)
    query = scope["query_string"].decode("latin-1")
    return RedirectResponse("/login?next=" + quote(scope["path"] + (f"?{query}" if query else ""), safe=""), 303)


def _name_visitor(scope: Scope, person: Person | None) -> None:
    headers = MutableHeaders(scope=scope)
    for header in (NAME_HEADER, ROLE_HEADER):
        del headers[header]
    if person is not None:
        headers[NAME_HEADER], headers[ROLE_HEADER] = person.name, person.role


def _hardened(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(SECURITY_HEADERS)
        await send(message)

    return sending
