"""The page's server as it is put together: what its settings do to what a browser gets."""

from __future__ import annotations

import asyncio
import gzip
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from worker.settings.settings import load_settings
from worker.ui import serve
from worker.ui.access.login_methods import LoginMethods
from worker.ui.access.people import People, set_password

PASSWORD = "correct horse battery"  # noqa: S105 - of the tests
SCRIPT = "const part = 1;\n" * 1000
OVER_TLS, IN_THE_CLEAR = ("https://bonewatch.example", "http://localhost:8501")


@pytest.fixture
def built(tmp_path, monkeypatch, database):
    """Build the server without Streamlit, of which there is one a process, for a person with a password."""
    script = Route("/static/js/part.js", lambda _request: PlainTextResponse(SCRIPT, media_type="text/javascript"))
    monkeypatch.setattr(serve, "App", lambda _, middleware, **__: Starlette(routes=[script], middleware=middleware))
    set_password(tmp_path / "passwords", "ada", "viewer", PASSWORD)
    people = People(tmp_path / "passwords")

    def building(provider=None, people=people, **given):
        return serve.build_app(load_settings(home=tmp_path, **given), database, LoginMethods(people, provider))

    return building


def answer(app, method, path, form=b"", **headers):
    """Return status, headers and body."""
    sent = []
    headers = {"host": "localhost", "content-length": len(form), **headers}

    async def receive():
        return {"type": "http.request", "body": form}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "scheme": "http", "server": ("localhost", 8501), "method": method,
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], Headers(raw=sent[0]["headers"]), body


def log_in(app):
    """Return the headers that the login with a password is answered with."""
    form = urlencode({"name": "ada", "password": PASSWORD}).encode()
    status, headers, _ = answer(app, "POST", "/login", form, content_type="application/x-www-form-urlencoded")
    assert status == 303
    return headers


@pytest.mark.parametrize(
    ("chosen", "page", "secure"),
    [(False, None, False), (True, None, True), (False, OVER_TLS, True), (False, IN_THE_CLEAR, False)],
)
def test_the_cookie_goes_over_tls_alone_where_the_site_says_so(built, chosen, page, secure):
    provider = None if page is None else SimpleNamespace(settings=SimpleNamespace(page=page))
    cookie = log_in(built(provider, ui_secure_cookie=chosen))["set-cookie"].lower()
    assert "httponly" in cookie
    assert ("; secure" in cookie) is secure


def test_scripts_are_compressed_for_browsers_that_accept_it_and_guarded_all_the_same(built):
    app = built(people=None)
    status, headers, body = answer(app, "GET", "/static/js/part.js", accept_encoding="gzip")
    assert (status, headers["content-encoding"], gzip.decompress(body).decode()) == (200, "gzip", SCRIPT)
    assert headers["vary"] == "Accept-Encoding"
    assert headers["x-content-type-options"] == "nosniff"
    _, headers, body = answer(app, "GET", "/static/js/part.js")
    assert ("content-encoding" in headers, body.decode()) == (False, SCRIPT)
