"""The rows that come in the page itself: whose, which, as text alone, on the record, and never waited for."""

from __future__ import annotations

import asyncio
import re
import threading
from html.parser import HTMLParser
from urllib.parse import parse_qs

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest
from structlog.testing import capture_logs

from tests.databases import a_job, a_study
from worker.db.database import Database
from worker.db.tables import Event
from worker.errors import DatabaseUnavailable
from worker.operate.worklist import PAGE_SIZE, worklist_page
from worker.settings.settings import load_settings
from worker.ui import first_rows
from worker.ui.first_rows import FirstRows
from worker.ui.worklist_view import asked_for

PATIENT = "DOE^JANE"
HOSTILE = '"><img src=x onerror=alert(1)>'


class Cells(HTMLParser):
    """Reads the table's cells and links, and every tag there is."""

    def __init__(self, markup):
        super().__init__()
        self.cells, self.links, self.tags, self._in_cell = [], [], set(), False
        self.feed(markup.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name == "href"]
        if tag == "td":
            self.cells.append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data):
        if self._in_cell:
            self.cells[-1] += data


@pytest.fixture
def studies(database):
    """Some more studies than a page has, the odd ones with a suspected fracture, the second unclear."""
    with database.write() as session:
        for number in range(1, PAGE_SIZE + 3):
            outcome = "inconclusive" if number == 2 else "present" if number % 2 else "absent"
            a_job(session, a_study(session, number), outcome=outcome)
    return database


@pytest.fixture
def ask(tmp_path):
    """Ask as the person that the door named; `closing` is called once there is an answer."""

    def asking(database, query="", fetched_as=None, closing=lambda: None, **settings):
        settings = load_settings(home=tmp_path, minimum_free_bytes=0, **settings)
        headers = [(b"x-bonewatch-name", b"ada"), (b"x-bonewatch-role", b"viewer")]
        headers += [(b"sec-fetch-dest", fetched_as.encode())] if fetched_as else []
        scope = {"type": "http", "path": "/", "query_string": query.encode(), "headers": headers}

        async def answered():
            answer = await FirstRows(settings, database)(scope)
            closing()
            return answer

        return asyncio.run(answered())

    return asking


def looks(database):
    with database.read() as session:
        return [
            (event.kind, event.detail["by"], event.detail["what"])
            for event in session.scalars(select(Event).order_by(Event.id))
            if event.kind.startswith("page_")
        ]


def patients(markup):
    return Cells(markup).cells[2::9]


def test_the_newest_studies_lead_to_their_pages_and_the_look_is_on_record(studies, ask):
    markup = ask(studies)
    assert patients(markup) == [f"P-{number}" for number in range(PAGE_SIZE + 2, 2, -1)]
    links = Cells(markup).links
    assert len(links) == PAGE_SIZE
    assert all(link.startswith("study?uid=") for link in links)
    assert looks(studies) == [("page_viewed", "ada", "worklist, first rows: newest page; filters: none")]


def test_filters_and_the_place_in_the_address_are_followed_and_never_recorded(studies, ask):
    assert patients(ask(studies, "text=P-7")) == ["P-7"]
    assert patients(ask(studies, "outcome=absent&below=0.7")) == ["P-6", "P-4"]
    positive = patients(ask(studies, "positive=true"))
    assert positive[:2] == ["P-27", "P-25"]
    assert positive[13:16] == ["P-1", "P-2", "P-26"]
    assert [what for *_, what in looks(studies)] == [
        "worklist, first rows: newest page; filters: Patient ID, accession number or study UID",
        "worklist, first rows: page below study 7; filters: outcome",
        "worklist, first rows: newest page; filters: positive first",
    ]


def test_a_site_that_masks_patients_sends_no_identifier(studies, ask):
    markup = ask(studies, ui_mask_patients=True)
    assert set(patients(markup)) == {"•••"}
    assert b"P-" not in markup


def test_what_a_header_holds_is_text_and_nothing_else(database, ask):
    with database.write() as session:
        study = a_study(session, 1, patient_id=HOSTILE, accession_number="'\" onclick=alert(1)")
        a_job(session, study, outcome="present", model_version="<script>alert(1)</script>")
    read = Cells(ask(database))
    assert read.cells[2] == HOSTILE
    assert read.cells[8] == "<script>alert(1)</script>"
    assert not read.tags & {"img", "script"}


@pytest.mark.parametrize(
    "query",
    ["since=2026-01-01", "until=2026-01-01", "positive=perhaps", "text=P-1&text=P-2", "text=" + "x" * 65],
    ids=["from-a-day", "to-a-day", "no-switch", "twice", "too-long"],
)
def test_what_only_streamlit_can_read_comes_without_rows_or_a_trace(studies, ask, query):
    assert ask(studies, query) == b""
    assert looks(studies) == []


def test_no_study_no_rows_and_no_trace(database, ask):
    assert ask(database) == b""
    assert looks(database) == []


ADDRESSES = [
    "", "text=P-7", "text=+P-7+", "text=" + "+" * 62 + "P-7", "text=" + "x" * 64, "text=%C2%A0P-7%20",
    "outcome=failed", "outcome=all", "outcome=waiting", "outcome=nonsense", "outcome=",
    "positive=true", "positive=TRUE", "positive=false", "positive=", "positive=1", "positive=perhaps",
    "body_part=hand&model=2026&below=1.40", "below=nonsense", "below=0.5&theme=dark", "TEXT=P-7", "text=P-7&text=P-8",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_means_what_the_page_itself_makes_of_it(address):
    def body(heard):
        import streamlit as st  # noqa: PLC0415 - AppTest runs the body as a script of its own

        from worker.operate.worklist import parse_place  # noqa: PLC0415
        from worker.ui import page_worklist  # noqa: PLC0415

        heard.append((page_worklist._filters(), parse_place(st.query_params.get("below"))))

    heard = []
    page = AppTest.from_function(body, kwargs={"heard": heard}, default_timeout=30)
    for name, values in parse_qs(address, keep_blank_values=True).items():
        page.query_params[name] = values
    page.run()
    assert not page.exception
    assert asked_for(address) in (None, heard[0])


def test_most_addresses_are_read():
    assert sum(asked_for(address) is None for address in ADDRESSES) == 4
    assert asked_for("text=P-7" + "&" * 1000) is None, "Streamlit forgets what has so many fields"


def test_whoever_the_door_let_in_as_nobody_gets_none(studies, tmp_path):
    settings = load_settings(home=tmp_path, minimum_free_bytes=0)
    scope = {"type": "http", "path": "/", "query_string": b"", "headers": []}
    assert asyncio.run(FirstRows(settings, studies)(scope)) == b""
    assert looks(studies) == []


@pytest.mark.parametrize("kind", ["image", "iframe", "empty"])
def test_what_another_sites_page_fetches_is_no_look(studies, ask, kind):
    assert ask(studies, fetched_as=kind) == b""
    assert looks(studies) == []
    assert ask(studies, fetched_as="document")


@pytest.mark.parametrize("error", [DatabaseUnavailable("locked"), ValueError(PATIENT), TypeError(PATIENT)])
def test_whatever_goes_wrong_costs_the_rows_alone_and_is_logged_without_its_words(ask, error):
    class Broken:
        def read(self):
            raise error

    with capture_logs() as logs:
        assert ask(Broken()) == b""
    assert [entry["event"] for entry in logs] == ["page_without_first_rows"]
    assert PATIENT not in str(logs)


def test_nobody_waits_for_a_database_that_others_write_into_and_no_look_is_recorded_later(studies, ask):
    soon = Database(studies.url, timeout_seconds=0.05)
    with studies.write(), capture_logs() as logs:
        assert ask(soon) == b""
    soon.close()
    assert logs
    assert looks(studies) == []


def test_a_search_that_takes_long_is_not_waited_for_and_is_no_look(studies, ask, monkeypatch):
    go_on, gone_on = threading.Event(), threading.Event()

    def slowly(*given, **more):
        assert go_on.wait(60)
        return worklist_page(*given, **more)

    def made(*given):
        found = markup(*given)
        gone_on.set()
        return found

    markup = first_rows._markup
    monkeypatch.setattr(first_rows, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(first_rows, "worklist_page", slowly)
    monkeypatch.setattr(first_rows, "_markup", made)
    with capture_logs() as logs:
        assert ask(studies, closing=go_on.set) == b""
    assert [entry["error"] for entry in logs] == ["slow"]
    assert gone_on.wait(60)
    assert looks(studies) == []


def test_the_first_question_is_asked_before_anybody_visits_and_a_database_that_is_away_stops_no_start(
    studies, tmp_path, monkeypatch
):
    class Away:
        def read(self):
            raise DatabaseUnavailable("locked")

    asked = []
    monkeypatch.setattr(first_rows, "worklist_page", lambda *given: asked.append(worklist_page(*given)))
    settings = load_settings(home=tmp_path, minimum_free_bytes=0)
    asyncio.run(FirstRows(settings, studies).prepare())
    assert [len(page.rows) for page in asked] == [PAGE_SIZE]
    assert looks(studies) == []
    asyncio.run(FirstRows(settings, Away()).prepare())


def test_no_program_comes_with_them(studies, ask):
    markup = ask(studies).decode()
    assert "<script" not in markup
    assert not re.search(r"\son[a-z]+=", markup)
