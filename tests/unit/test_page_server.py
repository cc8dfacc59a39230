"""The page's server as it is put together: what its settings do to what a browser gets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers

from worker.settings.settings import load_settings
from worker.ui import serve
from worker.ui.login_methods import LoginMethods
from worker.ui.people import People, set_password

PASSWORD = "correct horse battery"  # noqa: S105 - of the tests
OVER_TLS, IN_THE_CLEAR = ("https://bonewatch.example", "http://localhost:8501")


@pytest.fixture
def built(tmp_path, monkeypatch, database):
    """Build the server without Streamlit, of which there is one a process, for a person with a password."""
    monkeypatch.setattr(serve, "App", lambda _script, middleware, **_: Starlette(middleware=middleware))
    set_password(tmp_path / "passwords", "ada", "viewer", PASSWORD)
    people = People(tmp_path / "passwords")

    def building(provider=None, **given):
        return serve.build_app(load_settings(home=tmp_path, **given), database, LoginMethods(people, provider))

    return building


def log_in(app):
    """Return the headers that the login with a password is answered with."""
    form, sent = urlencode({"name": "ada", "password": PASSWORD}).encode(), []
    headers = {"host": "localhost", "content-type": "application/x-www-form-urlencoded", "content-length": len(form)}

    async def receive():
        return {"type": "http.request", "body": form}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "scheme": "http", "server": ("localhost", 8501), "method": "POST",
        "path": "/login", "raw_path": b"/login", "root_path": "", "query_string": b"",
        "headers": [(name.encode(), str(value).encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 303
    return Headers(raw=sent[0]["headers"])


@pytest.mark.parametrize(
    ("chosen", "page", "secure"),
    [(False, None, False), (True, None, True), (False, OVER_TLS, True), (False, IN_THE_CLEAR, False)],
)
def test_the_cookie_goes_over_tls_alone_where_the_site_says_so(built, chosen, page, secure):
    provider = None if page is None else SimpleNamespace(settings=SimpleNamespace(page=page))
    cookie = log_in(built(provider, ui_secure_cookie=chosen))["set-cookie"].lower()
    assert "httponly" in cookie
    assert ("; secure" in cookie) is secure
