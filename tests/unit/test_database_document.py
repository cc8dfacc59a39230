"""docs/database.md says what the database is: its columns exist, its queries run and find what they promise."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import inspect, text

from tests.databases import MORNING, a_delivery, a_job, a_study, an_image, an_instance, sqlite_database
from tests.product import ROOT
from worker.events import record
from worker.tables import Base, Rejection

DOCUMENT = (ROOT / "docs" / "database.md").read_text()
QUERIES = re.findall(r"^([^\n]*):\n\n```sql\n(.*?);\n```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def database(tmp_path):
    made = sqlite_database(tmp_path)
    yield made
    made.close()


@pytest.fixture
def filled(database):
    """A database with something for every query to find: two models, a failed image, an unsafe report, a refusal."""
    with database.write() as session:
        study = a_study(session)
        hand, torn = an_instance(session, study, 1), an_instance(session, study, 2)
        an_instance(session, study, 3, modality="DOC", out_of_scope_reason="a document")
        a_job(session, study)
        job = a_job(session, study, model_version="2026-09-01-second+89abcdef", outcome="present", probability=0.9)
        an_image(session, job, hand, boxes=1, outcome="present", probability=0.9)
        an_image(session, job, torn, outcome="failed", probability=None, reason="the pixel data is cut off")
        a_delivery(session, job, state="sent")
        record(session, "analysed", MORNING, study_id=study.id, job_id=job.id, images=2)
        refusal = {"code": "header", "reason": "no UID", "calling_ae_title": "PACS", "peer_address": "10.0.0.5"}
        session.add(Rejection(at=MORNING, **refusal))
    return database


def test_there_are_queries_to_be_tested():
    assert len(QUERIES) == DOCUMENT.count("```sql") >= 8


@pytest.mark.parametrize("query", [pytest.param(sql, id=title[:40]) for title, sql in QUERIES])
def test_every_query_finds_what_it_promises(filled, query):
    with filled.read() as session:
        assert session.execute(text(query)).first() is not None


@pytest.mark.parametrize("view", ["v_results", "v_findings"])
def test_every_column_of_a_view_is_explained_and_no_other(database, view):
    section = re.search(rf"^## [^\n]*`{view}`\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL).group(1)
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    explained = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert explained == [column["name"] for column in inspect(database.engine).get_columns(view)]


def test_the_picture_shows_every_table_and_only_columns_that_exist():
    picture = re.search(r"```mermaid\n(.*?)```", DOCUMENT, re.DOTALL).group(1)
    drawn = dict(re.findall(r"^    (\w+) \{\n(.*?)^    \}", picture, re.MULTILINE | re.DOTALL))
    assert set(drawn) == set(Base.metadata.tables)
    for name, body in drawn.items():
        columns = {line.split()[1] for line in body.splitlines()}
        assert columns <= set(Base.metadata.tables[name].columns.keys()), name


def test_the_picture_shows_every_relation_and_no_other():
    drawn = set(re.findall(r"^    (\w+) \|\|--o[{|] (\w+)", DOCUMENT, re.MULTILINE))
    tables = Base.metadata.tables.values()
    real = {(key.column.table.name, table.name) for table in tables for key in table.foreign_keys}
    assert drawn == real
