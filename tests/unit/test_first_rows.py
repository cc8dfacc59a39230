"""The rows that come in the page itself: whose, which, as text alone, on the record, and never waited for."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from tests.databases import a_job, a_study
from worker.errors import DatabaseUnavailable
from worker.settings import load_settings
from worker.tables import Event
from worker.ui import first_rows
from worker.ui.first_rows import FirstRows
from worker.ui.worklist_view import asked_for
from worker.worklist import PAGE_SIZE, Place, WorklistFilter

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
    """Some more studies than a page has, the odd ones with a suspected fracture."""
    with database.write() as session:
        for number in range(1, PAGE_SIZE + 3):
            a_job(session, a_study(session, number), outcome="present" if number % 2 else "absent")
    return database


@pytest.fixture
def ask(tmp_path):
    """Ask as the person that the door named."""

    def asking(database, query="", **settings):
        settings = load_settings(home=tmp_path, minimum_free_bytes=0, **settings)
        headers = [(b"x-bonewatch-name", b"ada"), (b"x-bonewatch-role", b"viewer")]
        scope = {"type": "http", "path": "/", "query_string": query.encode(), "headers": headers}
        return asyncio.run(FirstRows(settings, database)(scope))

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
    assert patients(ask(studies, "outcome=absent&below=0.5")) == ["P-4", "P-2"]
    positive = patients(ask(studies, "positive=true"))
    assert positive[:2] == ["P-27", "P-25"]
    assert positive[-1] == "P-6"
    assert [what for *_, what in looks(studies)] == [
        "worklist, first rows: newest page; filters: Patient ID, accession number or study UID",
        "worklist, first rows: page below study 5; filters: outcome",
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


def test_an_address_is_read_as_the_page_reads_it():
    asked = asked_for("outcome=failed&text=+P-1+&body_part=HAND&model=2026&positive=True&below=1.40&theme=dark")
    wanted = WorklistFilter(outcome="failed", text="P-1", body_part="HAND", model="2026", positive_first=True)
    assert asked == (wanted, Place(1, 40))
    assert asked_for("outcome=nonsense&below=nonsense") == (WorklistFilter(), None)


def test_a_database_that_is_away_costs_the_rows_alone(ask):
    class Away:
        def read(self):
            raise DatabaseUnavailable("the database cannot be used: disk I/O error")

    with capture_logs() as logs:
        assert ask(Away()) == b""
    assert [entry["event"] for entry in logs] == ["page_without_first_rows"]


def test_nobody_waits_for_a_database_that_others_write_into(studies, ask, monkeypatch):
    monkeypatch.setattr(first_rows, "WAIT_SECONDS", 0.05)
    with studies.write():
        assert ask(studies) == b""


def test_no_program_comes_with_them(studies, ask):
    markup = ask(studies).decode()
    assert "<script" not in markup
    assert not re.search(r"\son[a-z]+=", markup)
