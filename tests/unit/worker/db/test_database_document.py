"""docs/database.md says what the database is: its columns exist, its queries run and find what they promise."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import inspect, text

from tests.databases import a_delivery, a_job, a_study, an_image, an_instance
from tests.documents import DATABASE, queries
from worker.db.events import record
from worker.db.tables import (
    Base,
    Companion,
    Delivery,
    ReanalysisItem,
    ReanalysisRun,
    Rejection,
    ReplacedInstance,
    Study,
)

FIRST, SECOND = "2025-11-25-first+01234567", "2026-02-25-second+89abcdef"
YESTERDAY = datetime(2026, 3, 8, 8, 0, tzinfo=UTC)
TITLES = [title for title, _ in queries("sqlite")]


def answered(session, number, at, seconds=100, **values):
    """Add a study with one image that came at that moment and was answered so many seconds later."""
    study = a_study(session, number, first_instance_at=at, last_instance_at=at)
    image = an_instance(session, study, received_at=at, size_bytes=2**20)
    created, finished = at + timedelta(seconds=30), at + timedelta(seconds=seconds)
    common = {"last_image_at": at, "created_at": created, "finished_at": finished, "model_version": SECOND}
    job = a_job(session, study, **common, **values)
    return study, image, job


@pytest.fixture
def filled(database):
    """What the queries look for, and beside it what they must pass over."""
    with database.write() as session:
        study, hand, job = answered(session, 1, YESTERDAY, outcome="present", probability=0.9)
        an_image(
            session, job, hand, 2, outcome="present", probability=0.9, classifier_probability=0.95, detector_score=0.1
        )
        sent = a_delivery(session, job, state="sent", reason="no answer yet")
        picture = Companion(report_id=sent.report_id, kind="capture", number=1, state="built")
        session.add(picture)
        session.flush()
        session.add(Delivery(companion_id=picture.id, destination="pacs", state="pending", attempts=2))
        record(session, "analysed", YESTERDAY, study_id=study.id, job_id=job.id)
        _, wrist, job = answered(session, 2, YESTERDAY, seconds=200, outcome="absent", probability=0.1)
        an_image(session, job, wrist, classifier_probability=0.1, detector_score=0.2)
        a_delivery(session, job, state="committed", committed_at=YESTERDAY)
        _, torn, job = answered(
            session, 3, YESTERDAY - timedelta(days=2), state="failed", outcome="failed", probability=None, reason="torn"
        )
        an_image(session, job, torn, outcome="failed", probability=None, reason="the pixel data is cut off")
        long_ago = {"outcome": "present", "probability": 0.8}
        study, *_ = answered(session, 4, YESTERDAY - timedelta(days=400), **long_ago)
        night = datetime(2026, 2, 27, 23, tzinfo=UTC)
        common = {"finished_at": night, "lane": "archive", "analysis_seconds": 1800}
        a_job(session, study, model_version=FIRST, outcome="absent", probability=0.1, finished_at=night)
        a_job(session, study, model_version=SECOND, revision=2, outcome="present", probability=0.7, **common)
        again = {"created_at": YESTERDAY + timedelta(hours=2), "finished_at": YESTERDAY + timedelta(hours=3)}
        done = a_job(session, session.get_one(Study, 2), model_version=SECOND, lane="archive", revision=2, **again)
        came_back = YESTERDAY + timedelta(seconds=20)
        document = {"modality": "DOC", "out_of_scope_reason": "a document", "received_at": came_back}
        an_instance(session, session.get_one(Study, 1), 9, size_bytes=2**20, **document)
        refusal = {"code": "header", "reason": "no UID", "calling_ae_title": "PACS", "peer_address": "10.0.0.5"}
        session.add(Rejection(at=YESTERDAY, **refusal))
        study.held_reason = "two patients"
        session.add(
            ReplacedInstance(
                instance_id=hand.id, replaced_at=YESTERDAY, patient_id="TEMPORARY", transfer_syntax_uid="1.2",
                path="gone", digest="d", size_bytes=1, calling_ae_title="CR1", peer_address="10.0.0.6", source="push",
                received_at=YESTERDAY - timedelta(hours=1),
            )
        )  # fmt: skip
        # One in shadow, for an answer would be the study's newest.
        waiting = {"purpose": "shadow", "state": "queued", "outcome": None, "probability": None, "finished_at": None}
        a_run(session, answered=done, under_way=a_job(session, session.get_one(Study, 3), **waiting))
    return database


def a_run(session, *, answered, under_way):
    """Add a re-analysis that took up three studies: one is answered, one in analysis, one failed before."""
    asked = {"source": "store", "direction": "newest", "model_version": SECOND, "asked_by": "night"}
    run = ReanalysisRun(state="running", created_at=YESTERDAY, cursor_date="20260102", **asked)
    session.add(run)
    session.flush()
    items = (("2.25.2", "analysis", answered), ("2.25.3", "analysis", under_way), ("2.25.99", "failed", None))
    session.add_all(
        ReanalysisItem(run_id=run.id, study_instance_uid=uid, job_id=job and job.id, state=state, found_at=YESTERDAY)
        for uid, state, job in items
    )


def answers(database, title):
    (query,) = (query for each, query in queries(database.engine.dialect.name) if each == title)
    with database.read() as session:
        return [tuple(row) for row in session.execute(text(query))]


def first_columns(rows, count):
    return [tuple(str(value) for value in row[:count]) for row in rows]


EXPECTED = {
    "1. Yesterday's positives": [("A-1", "P-1", "HAND", "0.9", "2", SECOND, "sent")],
    "2. Turnaround percentiles by hour": [("08", "2", "100.0", "200.0", "200.0")],
    "3. Failures by reason": [("torn", "1")],
    "4. Disagreement between classifier and detector": [("A-1", "2.25.1.1", "1", "0.95", "0.1", "present", SECOND)],
    "5. Positives by body part and model": [(SECOND, "HAND", "1", "0.9")],
    "6. Changes between two models": [("newly_suspected", "A-4", "absent", "present", "0.1", "0.7")],
    "7. Studies seen but never reported": [("A-3",)],
    "8. Unanswered deliveries": [
        ("A-1", "report", "pacs", "sent", "0", "None", "None", "no answer yet"),
        ("A-1", "capture", "pacs", "pending", "2"),
    ],
    "9. Volumes by PACS": [("PACS", "3", "4", "1")],
    "10. Progress of the re-analysis": [("1", "store", SECOND, "running", "0", "0", "1", "1", "1")],
    "11. Drift of the mean probability by week": [("2026-02-23", FIRST, "1"), ("2026-03-02", SECOND, "2", "0.5")],
    "12. Everything about one accession number": 7,
    "Studies that wait for a decision": [("A-4", "two patients", "present", "none")],
    "Images that were corrected": [("A-1", "CR1", "PACS", "1")],
    "Images that could not be analysed": [("the pixel data is cut off", "1")],
    "What was left out": [("a document", "DOC", "1")],
    "What was refused at the door": [("PACS", "10.0.0.5", "header", "1")],
}


def test_every_query_of_the_page_is_tested_and_twelve_are_ready():
    assert TITLES == [title for title, _ in queries("postgresql")] == list(EXPECTED)
    assert [title.split(".")[0] for title in TITLES[:12]] == [str(number) for number in range(1, 13)]
    assert DATABASE.count("```sql") == len(TITLES) + 1, "one query is written for each database"


@pytest.mark.parametrize("title", TITLES)
def test_every_query_finds_what_it_promises_and_nothing_else(filled, title):
    rows, expected = answers(filled, title), EXPECTED[title]
    if isinstance(expected, int):
        assert len(rows) == expected
    else:
        assert [each[: len(want)] for each, want in zip(first_columns(rows, 9), expected, strict=True)] == expected


@pytest.mark.parametrize("view", ["v_results", "v_findings", "v_turnaround", "v_model_changes", "v_reanalysis"])
def test_every_column_of_a_view_is_explained_and_no_other(database, view):
    section = re.search(rf"^## [^\n]*`{view}`\n(.*?)^## ", DATABASE, re.MULTILINE | re.DOTALL).group(1)
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    explained = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert explained == [column["name"] for column in inspect(database.engine).get_columns(view)]


def test_the_picture_shows_every_table_and_every_column():
    picture = re.search(r"```mermaid\n(.*?)```", DATABASE, re.DOTALL).group(1)
    drawn = dict(re.findall(r"^    (\w+) \{\n(.*?)^    \}", picture, re.MULTILINE | re.DOTALL))
    assert set(drawn) == set(Base.metadata.tables)
    for name, body in drawn.items():
        columns = [line.split()[1] for line in body.splitlines()]
        assert columns == Base.metadata.tables[name].columns.keys(), name


def test_the_picture_shows_every_relation_and_no_other():
    drawn = set(re.findall(r"^    (\w+) \|\|--o[{|] (\w+)", DATABASE, re.MULTILINE))
    tables = Base.metadata.tables.values()
    real = {(key.column.table.name, table.name) for table in tables for key in table.foreign_keys}
    assert drawn == real
