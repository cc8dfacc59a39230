"""The login of the page: what reaches the application behind it, and as whom."""

from __future__ import annotations

import asyncio
import html
from contextlib import contextmanager

import pytest
import requests
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from structlog.testing import capture_logs

from tests.identity_provider import identity_provider, serving
from tests.peers import LOOPBACK, free_port
from worker.errors import DatabaseUnavailable
from worker.ui.access.login import AWAY, NAME_HEADER, ROLE_HEADER, LoginMiddleware
from worker.ui.access.login_methods import LoginMethods
from worker.ui.access.people import People, set_password
from worker.ui.access.single_sign_on import Provider, read_provider

PASSWORD = "correct horse battery"  # noqa: S105 - of the tests
HOUR = 3600


async def inside(scope, receive, send):
    """The application behind the login: says who it was told is there."""
    headers = Request(scope).headers
    answer = {"path": scope["path"], "who": [headers.get(NAME_HEADER), headers.get(ROLE_HEADER)]}
    await JSONResponse(answer)(scope, receive, send)


class Clock:
    """A time that tests set; it begins with today's."""

    now = 2e9

    def __call__(self):
        return self.now


async def untold(_kind, _by):
    """Record nothing."""


@contextmanager
def login(methods, port, clock, audit=untold):
    with serving(
        SessionMiddleware(LoginMiddleware(inside, methods, HOUR, audit, clock), secret_key="of the tests"), port
    ):
        yield f"http://{LOOPBACK}:{port}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A login for two people, what it told, and its clock."""
    file = tmp_path_factory.mktemp("people") / "passwords"
    set_password(file, "ada", "viewer", PASSWORD)
    set_password(file, "bob", "operator", PASSWORD)
    told, clock = [], Clock()

    async def tell(kind, by):
        told.append((kind, by))

    with login(LoginMethods(People(file)), free_port(), clock, tell) as address:
        yield address, file, told, clock


def log_in(address, name="ada", password=PASSWORD, after="/"):
    browser = requests.Session()
    form = {"name": name, "password": password, "next": after}
    return browser, browser.post(f"{address}/login", form, timeout=120, allow_redirects=False)


def test_a_visitor_reaches_the_page_as_who_they_are_whatever_they_claim(site):
    address, _, told, _ = site
    browser, answer = log_in(address)
    assert answer.status_code == 303
    claimed = {NAME_HEADER: "bob", ROLE_HEADER: "operator"}
    assert browser.get(f"{address}/study", headers=claimed, timeout=120).json()["who"] == ["ada", "viewer"]
    assert ("page_login", "ada") in told


def test_a_wrong_password_leads_nowhere_and_is_told_once_a_second_at_most(site):
    address, _, told, clock = site
    clock.now += 10
    before = told.count(("page_login_failed", ""))
    for name in ("ada", "eve"):
        browser, answer = log_in(address, name, "a wrong password")
        assert answer.status_code == 401
        assert browser.get(address, timeout=120, allow_redirects=False).status_code == 303
    assert told.count(("page_login_failed", "")) == before + 1


@pytest.mark.parametrize(
    "after", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", "javascript:alert(1)", "a\nb"]
)
def test_a_login_never_leads_to_another_site(site, after):
    assert log_in(site[0], after=after)[1].headers["location"] == "/"


def test_a_login_leads_back_to_where_one_was(site):
    answer = requests.get(f"{site[0]}/study?uid=1.2.3", timeout=120, allow_redirects=False)
    assert answer.headers["location"] == "/login?next=%2Fstudy%3Fuid%3D1.2.3"
    assert log_in(site[0], after="/study?uid=1.2.3")[1].headers["location"] == "/study?uid=1.2.3"


def test_a_login_ends_with_its_time_and_by_logging_out(site):
    address, _, _, clock = site
    browser, _ = log_in(address)
    clock.now += HOUR
    assert browser.get(address, timeout=120, allow_redirects=False).status_code == 303
    browser, _ = log_in(address)
    browser.get(f"{address}/logout", timeout=120)
    assert browser.get(address, timeout=120, allow_redirects=False).status_code == 303


def test_logging_out_ends_the_login_wherever_its_cookie_went_and_no_other(site):
    address, _, told, _ = site
    (browser, _), (elsewhere, _) = log_in(address), log_in(address)
    copied = dict(browser.cookies)
    before = told.count(("page_logout", "ada"))
    for _ in range(2):
        browser.get(f"{address}/logout", timeout=120)
        assert requests.get(address, cookies=copied, timeout=120, allow_redirects=False).status_code == 303
        requests.get(f"{address}/logout", cookies=copied, timeout=120)
    assert elsewhere.get(address, timeout=120).json()["who"] == ["ada", "viewer"]
    assert told.count(("page_logout", "ada")) == before + 1


def test_a_login_that_was_logged_out_of_is_forgotten_once_it_would_have_ended(site):
    methods, clock = LoginMethods(People(site[1])), Clock()
    one, two = ({"name": "ada", "id": each, "until": clock.now + wait} for each, wait in (("one", 60), ("two", HOUR)))
    here = LoginMiddleware(inside, methods, HOUR, untold, clock)
    answer(here, "/logout", one)
    clock.now += 61
    answer(here, "/logout", two)
    assert list(here._logged_out) == ["two"]


def answer(here, path, session, kind="http"):
    """Ask a login in this process; return what it sent first."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": "GET", "path": path, "headers": [], "query_string": b"", "session": session}
    asyncio.run(here(scope, None, send))
    return sent[0]


@pytest.mark.parametrize("session", [{}, {"name": "ada", "id": "old", "until": 2e9}], ids=["stranger", "login-over"])
def test_a_websocket_without_a_login_is_refused(site, session):
    here = LoginMiddleware(inside, LoginMethods(People(site[1])), HOUR, untold, Clock())
    assert answer(here, "/_stcore/stream", session, "websocket") == {"type": "websocket.close", "code": 1008}


def test_nothing_of_streamlit_answers_a_stranger(site):
    for path in ("/static/js/index.js", "/static/media/font.woff2", "/"):
        assert requests.get(f"{site[0]}{path}", timeout=120, allow_redirects=False).status_code == 303


def test_a_browser_keeps_no_copy_of_what_may_be_about_a_patient_and_keeps_the_programs(site):
    browser, _ = log_in(site[0])
    for path in ("/", "/media/report.dcm", "/_stcore/host-config"):
        assert browser.get(f"{site[0]}{path}", timeout=120).headers["cache-control"] == "no-store"
    for path in ("/static/js/index.js", "/static/media/font.woff2"):
        assert "cache-control" not in browser.get(f"{site[0]}{path}", timeout=120).headers


def test_too_long_a_form_is_not_read(site):
    assert requests.post(f"{site[0]}/login", b"name=" + bytes(20_000), timeout=120).status_code == 413
    assert requests.post(f"{site[0]}/login", iter([b"name=a"]), timeout=120).status_code == 413


@pytest.mark.parametrize("change", ["taken out", "viewer", "logged out"])
def test_an_open_websocket_ends_when_its_visitor_is_taken_out_may_do_less_or_logs_out(site, change):
    _, file, _, clock = site
    set_password(file, "eve", "operator", PASSWORD)
    seen = []

    async def receive():
        return {"type": "websocket.receive", "text": "rerun"}

    async def sending(_message):
        pass

    async def listening(scope, receive, send):
        scope["session"] = {}  # as Streamlit does
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        if change == "viewer":
            set_password(file, "eve", "viewer", PASSWORD)
        elif change == "logged out":
            await here({**asked, "type": "http", "method": "GET", "path": "/logout"}, receive, sending)
        else:
            take_out(file, "eve")
        seen.append((await receive())["type"])

    session = {"name": "eve", "id": "one", "until": clock.now + HOUR}
    asked = {"path": "/_stcore/stream", "headers": [], "query_string": b"", "session": session}
    here = LoginMiddleware(listening, LoginMethods(People(file)), HOUR, untold, clock)
    # Each request brings a session of its own, read from its cookie.
    asyncio.run(here({**asked, "type": "websocket", "session": dict(session)}, receive, sending))
    assert seen == ["websocket.receive", "websocket.receive", "websocket.disconnect"]


def test_without_a_trace_nobody_comes_in_and_who_leaves_has_left(site):
    async def away(_kind, _by):
        raise DatabaseUnavailable("locked")

    session = {"name": "ada", "id": "one", "until": 2e9 + HOUR}
    with login(LoginMethods(People(site[1])), free_port(), Clock(), away) as address:
        browser, refused = log_in(address)
        assert (refused.status_code, AWAY in html.unescape(refused.text)) == (503, True)
        assert browser.get(address, timeout=120, allow_redirects=False).status_code == 303
        assert log_in(address, password="a wrong password")[1].status_code == 503
    here = LoginMiddleware(inside, LoginMethods(People(site[1])), HOUR, away, Clock())
    assert answer(here, "/", dict(session))["status"] == 200
    with capture_logs() as logs:
        assert answer(here, "/logout", dict(session))["status"] == 303
    assert [entry["event"] for entry in logs] == ["logout_not_recorded"]
    assert answer(here, "/", dict(session))["status"] == 303


@pytest.fixture(scope="module")
def with_provider(tmp_path_factory):
    """A login to which an identity provider leads, and the provider."""
    file, port = tmp_path_factory.mktemp("login") / "login.toml", free_port()
    with identity_provider() as provider:
        file.write_text(provider.settings(f"http://{LOOPBACK}:{port}"))
        clock = Clock()
        with login(LoginMethods(provider=Provider(read_provider(file))), port, clock) as address:
            yield address, provider, clock


def test_the_identity_provider_leads_in_with_the_role_of_the_group(with_provider):
    address, provider, clock = with_provider
    browser = requests.Session()
    assert 'href="/login/provider?next=%2Fstudy"' in browser.get(f"{address}/study", timeout=120).text
    answer = browser.get(f"{address}/login/provider?next=/study", timeout=120)
    assert answer.json() == {"path": "/study", "who": ["reader", "viewer"]}
    provider.claims["groups"] = ["imaging"]
    answer = requests.Session().get(f"{address}/login/provider", timeout=120)
    assert answer.json()["who"] == ["reader", "operator"]
    clock.now += HOUR
    assert browser.get(address, timeout=120, allow_redirects=False).status_code == 303


def test_whoever_the_provider_let_in_leaves_there_too(with_provider):
    address, provider, _ = with_provider
    provider.claims["groups"] = ["imaging"]
    browser = requests.Session()
    browser.get(f"{address}/login/provider", timeout=120)
    left, again = (browser.get(f"{address}/logout", timeout=120, allow_redirects=False) for _ in range(2))
    assert left.headers["location"].startswith(f"{provider.address}/logout?")
    assert again.headers["location"] == "/login"
    assert browser.get(address, timeout=120, allow_redirects=False).status_code == 303


def test_who_has_no_role_or_began_elsewhere_stays_outside(with_provider):
    address, provider, _ = with_provider
    provider.claims["groups"] = ["kitchen"]
    answer = requests.Session().get(f"{address}/login/provider", timeout=120)
    assert answer.status_code == 403
    assert "may not look" in answer.text
    provider.claims["groups"] = ["imaging"]
    away = requests.get(f"{address}/login/provider", timeout=120, allow_redirects=False).headers["location"]
    back = requests.get(away, timeout=120, allow_redirects=False).headers["location"]
    assert requests.Session().get(back, timeout=120).status_code == 403
    assert requests.post(f"{address}/login", {"name": "ada", "password": PASSWORD}, timeout=120).status_code == 405


def take_out(file, name):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(name)))
