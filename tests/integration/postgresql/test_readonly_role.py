"""The role of deploy/postgresql_readonly.sql on a real server: it reads everything and changes nothing."""

from __future__ import annotations

import subprocess

import pg8000.native
import pytest
from pg8000.exceptions import DatabaseError
from sqlalchemy import text

from tests.databases import a_study, sqlite_database  # noqa: F401 - the fixture of this folder asks for it
from tests.product import ROOT

SCRIPT = ROOT / "deploy" / "postgresql_readonly.sql"


@pytest.fixture
def reader(postgresql):
    url = postgresql.engine.url
    arguments = ["--host", url.host, "--port", str(url.port), "--username", url.username, "--dbname", url.database]
    for _ in range(2):  # running it again changes nothing
        subprocess.run(
            ["psql", *arguments, "--no-psqlrc", "--set", "role=reader", "--file", str(SCRIPT)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    with postgresql.write() as session:
        a_study(session, 77)
        session.execute(text("CREATE TABLE made_later (id integer)"))
    connection = pg8000.native.Connection("reader", host=url.host, port=url.port, database=url.database)
    yield connection
    connection.close()
    with postgresql.write() as session:
        session.execute(text("DROP TABLE made_later"))
        session.execute(text("DELETE FROM studies WHERE study_instance_uid = '2.25.77'"))
        session.execute(text("DROP OWNED BY reader"))
        session.execute(text("DROP ROLE reader"))


def test_it_reads_tables_views_and_what_later_versions_make(reader):
    assert reader.run("SELECT patient_id FROM studies WHERE study_instance_uid = '2.25.77'") == [["P-77"]]
    for name in ("v_results", "v_findings", "v_reanalysis", "made_later"):
        reader.run(f"TABLE {name} LIMIT 1")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM studies",
        "UPDATE studies SET patient_id = 'X'",
        "INSERT INTO made_later VALUES (1)",
        "CREATE TABLE own (id integer)",
        "TRUNCATE events",
        "DROP VIEW v_results",
    ],
)
@pytest.mark.parametrize("read_only", ["on", "off"])
def test_it_changes_nothing_even_where_it_asks_for_transactions_that_write(reader, statement, read_only):
    reader.run(f"SET default_transaction_read_only = {read_only}")
    with pytest.raises(DatabaseError):
        reader.run(statement)
