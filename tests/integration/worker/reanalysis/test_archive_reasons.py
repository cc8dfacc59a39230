"""What goes wrong with an archive is told in words, in SQL and by `bonewatch reanalyze status`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from tests.archive_pacs import STUDY, answer, images, pacs
from tests.databases import Clock, sqlite_database
from tests.fakes_worker import FakeQueue
from tests.peers import LOOPBACK, free_port
from worker.cli.root import app
from worker.queue.bootstrap import Runtime
from worker.reanalysis import runs
from worker.reanalysis.parts import MOST_ATTEMPTS
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import ARCHIVE, Request
from worker.settings.settings import load_settings

PENDING = 0xFF00
DAY = date(2024, 1, 2)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "500")
    sqlite_database(tmp_path).close()
    return tmp_path


def run_over(home, pacs_=None, steps=MOST_ATTEMPTS + 2):
    """Let a run over a day of an archive do steps; return what SQL and the command line then say."""
    archive = {"name": "past", "ae_title": "PACS", "host": LOOPBACK, "port": pacs_.port if pacs_ else free_port()}
    settings = load_settings(
        home=home, archive=json.dumps(archive), archive_timeout_seconds=3, archive_total_seconds=10,
        reanalysis_queries_a_minute=6000, reanalysis_retrievals_a_minute=6000, minimum_free_bytes=0,
    )  # fmt: skip
    runtime, clock = Runtime(settings, FakeQueue()), Clock()
    try:
        request = Request(ARCHIVE, since=DAY, until=DAY, modalities=("DX",))
        model = runtime.model_version()
        runs.start(runtime.database, request, model_version=model, asked_by="a test", now=clock())
        parts = replace(runtime.reanalyzer(), clock=clock)
        for _ in range(steps):
            step(parts)
            clock.advance(700)
        with runtime.database.read() as session:
            return SimpleNamespace(
                run=session.execute(text("SELECT state, reason FROM reanalysis_runs")).one(),
                items=session.execute(text("SELECT state, reason_code, reason FROM reanalysis_items")).all(),
                files=session.scalar(text("SELECT count(*) FROM instances WHERE file_deleted_at IS NULL")),
                jobs=session.scalar(text("SELECT count(*) FROM jobs")),
                told=CliRunner().invoke(app, ["reanalyze", "status"]).output,
            )
    finally:
        runtime.database.close()


def finds(event):
    yield PENDING, answer(STUDY, StudyDate="20240102", ModalitiesInStudy="DX")


def gives(*data_sets, then=nullcontext):
    def handle(event):
        yield 2
        for ds in data_sets:
            yield PENDING, ds
        then(event)

    return handle


def test_a_wrong_port_is_the_runs_reason(home):
    found = run_over(home, steps=1)
    assert found.run.state == "planned"
    assert f"past: no association with PACS at {LOOPBACK}:" in found.run.reason
    assert "past: no association with PACS" in found.told


@pytest.fixture
def nobody(home, monkeypatch):
    """The settings name an archive that is not there: pynetdicom complains of that."""
    archive = {"name": "past", "ae_title": "PACS", "host": LOOPBACK, "port": free_port()}
    monkeypatch.setenv("BONEWATCH_ARCHIVE", json.dumps(archive))


@pytest.mark.usefixtures("nobody")
def test_a_dry_run_that_cannot_be_made_prints_no_json_and_says_why_beside_it():
    done = CliRunner().invoke(app, ["reanalyze", "plan", "--from", "archive", "--json"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"past: no association with PACS at {LOOPBACK}:" in done.stderr


@pytest.mark.usefixtures("nobody")
def test_doctor_prints_json_and_nothing_else_though_libraries_complain():
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 1
    assert [each["verdict"] for each in json.loads(done.stdout) if each["name"] == "archive past"] == ["bad"]


def test_a_pacs_that_wants_another_name_is_the_runs_reason(home):
    def refuses(event):
        yield 0x0124, None  # not authorised (PS3.7 C.5.3)

    with pacs(find=refuses, get=gives()) as pacs_:
        found = run_over(home, pacs_, steps=1)
    for words in (found.run.reason, found.told):
        assert "0x0124" in words, words


def test_a_way_that_the_pacs_does_not_offer_is_named(home):
    with pacs(find=finds) as pacs_:
        found = run_over(home, pacs_)
    for words in (found.items[0].reason, found.told):
        assert "does not accept Study Root Query/Retrieve Information Model - GET" in words, words


def test_an_association_that_the_pacs_drops_in_the_middle_fails_the_study_and_leaves_nothing(home):
    with pacs(find=finds, get=gives(*images(1), then=lambda event: event.assoc.abort())) as pacs_:
        found = run_over(home, pacs_)
    ((state, code, reason),) = found.items
    assert (state, code) == ("failed", "peer_unreachable")
    assert reason in found.told
    assert code in found.told
    assert (found.files, found.jobs, found.run.state) == (0, 0, "finished")


def test_a_study_that_was_deleted_since_it_was_found_fails_at_once(home):
    def nothing(event):
        yield 0

    with pacs(find=finds, get=nothing) as pacs_:
        found = run_over(home, pacs_, steps=2)
    ((state, code, reason),) = found.items
    assert (state, code, found.run.state) == ("failed", "not_found", "finished")
    assert code in found.told
    assert reason in found.told
