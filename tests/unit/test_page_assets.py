"""How the page's browser programs come: packed, named beforehand, and by Streamlit itself where we know them not."""

from __future__ import annotations

import asyncio
import gzip
import json
import re

import pytest

from worker.ui.assets import FOLDER, ROOT, WAITING, WORKLIST, Assets, AssetServer

SCRIPT = "/static/js/part.js"
PAGE = b'<html><head><title>a</title></head><body><div id="root"></div></body></html>'


@pytest.fixture
def folder(tmp_path):
    """A Streamlit in miniature: a page's script, and a part of the worklist that needs another one."""
    scripts = tmp_path / "static" / "js"
    scripts.mkdir(parents=True)
    for name in ("index", "part", "shared"):
        (scripts / f"{name}.js").write_text(f"// {name}\n" * 1000)
    manifest = {
        "index.html": {"file": "static/js/index.js", "imports": []},
        "Button.tsx": {
            "file": "static/js/part.js", "name": "Button", "isDynamicEntry": True, "imports": ["_s", "index.html"]
        },
        "_s": {"file": "static/js/shared.js", "imports": ["Button.tsx"]},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


async def streamlit(scope, receive, send):
    """Answer as Streamlit does, in two parts."""
    kind = b"text/html; charset=utf-8" if scope["path"] in ("/", "/study") else b"text/javascript"
    headers = [(b"content-type", kind), (b"content-length", str(len(PAGE)).encode()), (b"etag", b"its-own")]
    if dict(scope["headers"]).get(b"if-none-match") == b"its-own":
        await send({"type": "http.response.start", "status": 304, "headers": []})
        await send({"type": "http.response.body"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE[:20], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[20:]})


async def no_rows(_scope):
    return b""


def get(assets, path, *, method="GET", first_rows=no_rows, **headers):
    """Return headers and body."""
    sent = []

    async def send(message):
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    asyncio.run(AssetServer(streamlit, assets, first_rows)(scope, None, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return answered, b"".join(message.get("body", b"") for message in sent[1:])


def test_a_script_comes_packed_and_is_never_asked_for_again(folder):
    headers, body = get(Assets(folder), SCRIPT, accept_encoding="br, gzip;q=0.5")
    assert gzip.decompress(body) == (folder / SCRIPT[1:]).read_bytes()
    assert headers["content-encoding"] == "gzip"
    assert headers["content-length"] == str(len(body))
    assert "immutable" in headers["cache-control"]
    assert headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (SCRIPT, {}),
        (SCRIPT, {"accept_encoding": "br, gzip; q=0"}),
        (SCRIPT, {"accept_encoding": "gzip;Q=0.0, identity"}),
        (SCRIPT, {"accept_encoding": "gzip", "range": "bytes=0-9"}),
        (SCRIPT, {"accept_encoding": "gzip", "method": "POST"}),
        ("/static/js/../../manifest.json", {"accept_encoding": "gzip"}),
    ],
    ids=["not-packed", "never-packed", "never-packed-first", "a-range", "another-method", "outside"],
)
def test_what_is_asked_for_otherwise_is_answered_by_streamlit(folder, path, asked):
    headers, body = get(Assets(folder), path, **asked)
    assert body == PAGE
    assert "content-encoding" not in headers


def test_the_worklists_page_names_every_script_it_needs(folder):
    headers, body = get(Assets(folder), "/")
    assert re.findall(rb'rel="modulepreload" crossorigin href="([^"]*)"', body) == [
        b"/static/js/index.js",
        b"/static/js/part.js",
        b"/static/js/shared.js",
    ]
    assert body.startswith(b"<html><head><title>a</title><link ")
    assert WAITING in body
    assert headers["content-length"] == str(len(body))
    assert get(Assets(folder), "/study")[1] == PAGE


def test_the_first_rows_lie_above_the_place_where_streamlit_draws_and_on_no_other_page(folder):
    asked = []

    async def rows(scope):
        asked.append(scope["path"])
        return b"<table>"

    headers, body = get(Assets(folder), "/", first_rows=rows)
    assert b"<table>" + WAITING in body
    assert headers["content-length"] == str(len(body))
    assert get(Assets(folder), "/study", first_rows=rows)[1] == PAGE
    assert asked == ["/"]


def test_a_browser_that_was_here_before_gets_the_page_anew(folder):
    headers, body = get(Assets(folder), "/", if_none_match="its-own")
    assert b"modulepreload" in body
    assert "etag" not in headers
    assert get(Assets(folder), "/study", if_none_match="its-own")[1] == b""


@pytest.mark.parametrize(
    "manifest", ["", "[]", '{"index.html": {}}', '{"index.html": {"file": "a", "imports": ["b"]}}']
)
def test_a_streamlit_that_names_its_parts_otherwise_costs_the_hints_alone(folder, manifest):
    (folder / "manifest.json").write_text(manifest)
    assets = Assets(folder)
    assert get(assets, "/")[1] == PAGE.replace(ROOT, WAITING)
    assert get(assets, SCRIPT, accept_encoding="gzip")[0]["content-encoding"] == "gzip"


def test_the_streamlit_that_is_installed_draws_where_the_first_line_stands():
    assert ROOT in (FOLDER / "index.html").read_bytes()


def test_the_streamlit_that_is_installed_knows_every_part_that_the_worklist_names():
    assets = Assets()
    hinted = re.findall(r"static/js/([A-Za-z]+)\.", assets.hints.decode())
    assert set(WORKLIST) <= set(hinted)
    assert all(FOLDER.joinpath(name).is_file() for name in re.findall(r'href="/([^"]*)"', assets.hints.decode()))
