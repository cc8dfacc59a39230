"""The login of the page: nothing behind it answers anybody who has not logged in, the WebSocket included.

The Streamlit script learns who looks from two headers that are set here; what a client sent of them is dropped.
"""

from __future__ import annotations

import html
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_io.network.incident import incident
from worker.errors import DatabaseError
from worker.ui.access.login_methods import LoginMethods
from worker.ui.access.people import People, Person
from worker.ui.access.single_sign_on import LoginRefused, Provider

log = structlog.get_logger(__name__)

NAME_HEADER, ROLE_HEADER = "x-bonewatch-name", "x-bonewatch-role"
OWN_PATHS = ("/login", "/login/provider", "/login/return", "/logout")
LONGEST_FORM_BYTES = 10_000
AWAY = "The database does not answer now, and nobody is let in without a trace. Try again in a minute."
# Streamlit's own package, fonts and pictures too: no answer about a patient comes from there.
PACKAGE = "/static/"
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
button, .button { display: block; margin-top: 1.5rem; padding: .6rem 1.2rem; font: inherit; width: 100%;
  box-sizing: border-box; text-align: center; text-decoration: none; border: 1px solid; border-radius: .3rem;
  background: #0b6bcb; color: #fff; border-color: #0b6bcb }
[role=alert] { border-left: .3rem solid #c62828; padding: .2rem .8rem }
</style></head><body><main><h1>bonewatch</h1><p>Decision support, never a diagnosis.</p>__ALERT____FORM__</main></body>
</html>"""
FORM = """<form method="post" action="/login"><input type="hidden" name="next" value="__NEXT__">
<label for="name">Name</label><input id="name" name="name" autocomplete="username" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button></form>"""


@dataclass
class LoginMiddleware:
    """ASGI middleware behind a session: lets through who has logged in, or everybody where no login is wanted."""

    app: ASGIApp
    methods: LoginMethods
    login_seconds: float
    audit: Callable[[str, str], Awaitable[None]]
    clock: Callable[[], float] = time.time
    _one_password_at_a_time: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    _failure_told_at: float = -math.inf
    _logged_out: dict[str, float] = field(default_factory=dict)
    """When the logins that were logged out of would have ended: till then their cookies may come again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        # Taken now: Streamlit puts a session of its own into the scope.
        path, session = scope["path"], scope["session"]
        person = self._person(session)
        if scope["type"] == "http" and not self.methods.is_open and path in OWN_PATHS:
            response = await self._on_record(Request(scope, receive))
            await response(scope, receive, _hardened(path, send))
        elif person is not None or path == "/_stcore/health":
            _name_visitor(scope, person)
            await self.app(scope, self._watched(session, person, receive), _hardened(path, send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _away(scope)(scope, receive, _hardened(path, send))

    def _watched(self, session: Mapping[str, Any], person: Person | None, receive: Receive) -> Receive:
        """End a WebSocket at the first message after its login has ended, by logging out too, or with another role.

        A page left open must not outlive either: it knows the role of the day it was opened.
        """

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and self._person(session) != person:
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        return receiving

    def _person(self, session: Mapping[str, Any]) -> Person | None:
        if self.methods.is_open:
            return Person("local", "operator")
        if not self._holds(session):
            return None
        name, role = session["name"], session.get("role")
        if role is None:  # a password: its file is asked every time, so that whoever is taken out is out
            return None if self.methods.people is None else self.methods.people.find(name)
        return Person(name, role)

    def _holds(self, session: Mapping[str, Any]) -> bool:
        login = session.get("id")
        return login is not None and login not in self._logged_out and self.clock() < session["until"]

    async def _on_record(self, request: Request) -> Response:
        try:
            return await self._log_in_or_out(request)
        except (DatabaseError, SQLAlchemyError) as error:
            log.warning("login_not_recorded", **incident(error))
            return self._page("/", AWAY, 503)

    async def _log_in_or_out(self, request: Request) -> Response:
        path, after = request.url.path, request.query_params.get("next", "/")
        if path == "/logout":
            return await self._leave(request)
        if request.method == "POST" and path == "/login" and self.methods.people is not None:
            return await self._with_password(request, self.methods.people)
        if request.method != "GET":
            return PlainTextResponse("not allowed", 405)
        if path != "/login" and self.methods.provider is not None:
            go = self._to_provider if path == "/login/provider" else self._from_provider
            return await go(request, self.methods.provider)
        return self._page(after)

    async def _with_password(self, request: Request, people: People) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LONGEST_FORM_BYTES:
            return PlainTextResponse("too much", 413)
        async with request.form(max_files=0, max_fields=5) as form:
            name, password, after = (str(form.get(key, "")) for key in ("name", "password", "next"))
        if (wait := people.seconds_to_wait(name)) > 0:
            return self._page(after, f"Too many attempts: wait {wait:.0f} seconds.", 429)
        # One at a time: argon2 takes much memory on purpose, and strangers may ask as often as they like.
        person = await to_thread.run_sync(people.check, name, password, limiter=self._one_password_at_a_time)
        if person is None:
            await self._tell_failure()
            return self._page(after, "Name or password is wrong.", 401)
        return await self._enter(request, {"name": person.name}, after)

    async def _to_provider(self, request: Request, provider: Provider) -> Response:
        after = _inside(request.query_params.get("next", "/"))
        try:
            address, remembered = await to_thread.run_sync(provider.begin)
        except LoginRefused as refusal:
            return self._page(after, str(refusal), 502)
        request.session.clear()
        request.session["login"] = {**remembered, "after": after}
        return RedirectResponse(address, 303)

    async def _from_provider(self, request: Request, provider: Provider) -> Response:
        begun = request.session.pop("login", None)
        after = begun["after"] if isinstance(begun, dict) else "/"
        try:
            person = await to_thread.run_sync(provider.finish, dict(request.query_params), begun)
        except LoginRefused as refusal:
            await self._tell_failure()
            return self._page(after, str(refusal), 403)
        return await self._enter(request, {"name": person.name, "role": person.role}, after)

    async def _enter(self, request: Request, who: dict[str, str], after: str) -> Response:
        request.session.clear()
        await self.audit("page_login", who["name"])
        request.session.update(who, id=secrets.token_hex(16), until=self.clock() + self.login_seconds)
        return RedirectResponse(_inside(after), 303)

    async def _leave(self, request: Request) -> Response:
        login, now = dict(request.session), self.clock()
        request.session.clear()
        if self._holds(login):
            kept = {each: until for each, until in self._logged_out.items() if now < until}
            self._logged_out = {**kept, login["id"]: login["until"]}
            try:
                await self.audit("page_logout", login["name"])
            except (DatabaseError, SQLAlchemyError) as error:  # who leaves must not be kept, here or at the provider
                log.warning("logout_not_recorded", **incident(error))
        return RedirectResponse(await self._out(login), 303)

    async def _out(self, login: Mapping[str, Any]) -> str:
        """Return where somebody goes who has logged out: to the provider that let them in, or else to the login.

        While they are logged in there, the next person at this machine would come in under their name.
        """
        provider = self.methods.provider if "role" in login else None
        address = None if provider is None else await to_thread.run_sync(provider.farewell)
        return address or "/login"

    async def _tell_failure(self) -> None:
        """Record a failed login, once a second at most: strangers must not fill the database."""
        if self.clock() - self._failure_told_at >= 1:
            self._failure_told_at = self.clock()
            await self.audit("page_login_failed", "")

    def _page(self, after: str, alert: str | None = None, status: int = 200) -> HTMLResponse:
        inside = _inside(after)
        words = f'<p role="alert">{html.escape(alert)}</p>' if alert else ""
        form = FORM.replace("__NEXT__", html.escape(inside)) if self.methods.people is not None else ""
        if self.methods.provider is not None:
            label = html.escape(self.methods.provider.settings.label)
            form += f'<p><a class="button" href="/login/provider?next={quote(inside, safe="")}">{label}</a></p>'
        return HTMLResponse(PAGE.replace("__ALERT__", words).replace("__FORM__", form), status)


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


def _hardened(path: str, send: Send) -> Send:
    """Have browsers guard an answer, and keep no copy of it where it may be about a patient."""
    headers = SECURITY_HEADERS if path.startswith(PACKAGE) else {**SECURITY_HEADERS, "Cache-Control": "no-store"}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
