"""What is particular to SQLite: the file, the WAL, one writer at a time; and the addresses of both databases."""

from __future__ import annotations

import shutil
import sqlite3
import stat

import pytest
from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import IntegrityError

from tests.databases import MORNING
from worker.db.database import (
    MIGRATIONS,
    Database,
    _scripts,
    check_revision,
    current_revision,
    open_database,
    upgrade,
)
from worker.db.tables import Instance, Study
from worker.errors import DatabaseNotUpgraded, DatabaseUnavailable
from worker.settings.connection_url import driver_arguments, parse_database_url


def new_study(number=1, **values):
    return Study(study_instance_uid=f"2.25.{number}", first_instance_at=MORNING, last_instance_at=MORNING, **values)


def test_a_missing_database_names_the_command_that_makes_it_and_leaves_no_file(tmp_path):
    url = parse_database_url(f"sqlite:///{tmp_path}/none.sqlite3")
    with pytest.raises(DatabaseNotUpgraded, match="no tables yet: run `bonewatch db upgrade`"):
        open_database(url)
    assert list(tmp_path.iterdir()) == []


def test_upgrading_twice_changes_nothing_the_second_time(tmp_path):
    url = parse_database_url(f"sqlite:///{tmp_path}/home/bonewatch.sqlite3")
    before, head = upgrade(url)
    assert before is None
    assert upgrade(url) == (head, head)
    database = open_database(url)
    assert current_revision(database) == head
    database.close()


def test_the_database_of_patients_is_readable_by_its_owner_only(tmp_path):
    upgrade(parse_database_url(f"sqlite:///{tmp_path}/home/bonewatch.sqlite3"))
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "home" / "bonewatch.sqlite3").stat().st_mode) == 0o600


def test_commits_wait_for_the_disk_and_readers_wait_for_nobody(database):
    with database.read() as session:
        assert session.scalar(text("PRAGMA synchronous")) == 2  # FULL
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_a_transaction_that_writes_takes_its_turn_before_it_reads(database):
    other = sqlite3.connect(database.url.database, timeout=0)
    with database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_reader_sees_one_state_while_a_writer_commits(database):
    with database.read() as reading:
        assert reading.scalar(select(func.count()).select_from(Study)) == 0
        with database.write() as session:
            session.add(new_study())
        assert reading.scalar(select(func.count()).select_from(Study)) == 0


def test_a_database_that_stays_locked_is_unavailable_for_now(database):
    impatient = Database(database.url, timeout_seconds=0.01)
    with database.write(), pytest.raises(DatabaseUnavailable, match="locked") as error, impatient.write():
        pass
    assert error.value.retryable
    impatient.close()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear colleague, " * 100)
    with pytest.raises(DatabaseUnavailable, match=r"letter\.txt cannot be opened: file is not a database"):
        upgrade(parse_database_url(f"sqlite:///{tmp_path}/letter.txt"))


def test_what_is_said_of_a_failed_statement_holds_no_values(database):
    with pytest.raises(IntegrityError) as error, database.write() as session:
        session.add_all([new_study(patient_id="SECRET-ID"), new_study(patient_id="SECRET-ID")])
    assert "SECRET-ID" not in str(error.value)


def test_both_drivers_are_named_and_others_refused():
    assert parse_database_url("postgres://u@h/d").drivername == "postgresql+pg8000"
    assert parse_database_url("sqlite:////var/x.db").database == "/var/x.db"
    for wrong in (
        "mysql://u@h/d",
        "sqlite:///:memory:",
        "postgresql://h",
        "postgresql://u@h/d?sslmode=hope",
        "nothing",
    ):
        with pytest.raises(ValueError, match=r"^(begins|names|has|is)"):
            parse_database_url(wrong)


@pytest.mark.parametrize(
    ("query", "verified", "checks_name"),
    [("?sslmode=require", False, False), ("?sslmode=verify-ca", True, False), ("?sslmode=verify-full", True, True)],
)
def test_libpq_words_for_tls_become_a_context_of_the_driver(query, verified, checks_name):
    url, arguments = driver_arguments(parse_database_url(f"postgresql://u@h/d{query}"))
    context = arguments["ssl_context"]
    assert not url.query
    assert (context.verify_mode.name == "CERT_REQUIRED", context.check_hostname) == (verified, checks_name)
    assert driver_arguments(parse_database_url("postgresql://u@h/d"))[1] == {"ssl_context": False}


@pytest.mark.parametrize("column", ["study_instance_uid", "patient_id", "accession_number"])
def test_the_filters_of_every_day_reach_their_study_by_an_index(database, column):
    with database.read() as session:
        plan = session.execute(text(f"EXPLAIN QUERY PLAN SELECT * FROM v_results WHERE {column} = 'x'")).all()  # noqa: S608
    assert any(f"({column}=?)" in row.detail for row in plan)
    assert not any(row.detail.startswith("SCAN") and "listed" not in row.detail for row in plan)


def test_a_body_part_is_counted_by_its_index(database):
    part = select(Instance.study_id).where(func.upper(Instance.body_part_examined) == "JAW").limit(5)
    with database.read() as session:
        words = str(part.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))
        (step,) = session.execute(text(f"EXPLAIN QUERY PLAN {words}")).all()
    assert "ix_instances_part" in step.detail


NEXT_MIGRATION = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None

def upgrade():
    op.execute("CREATE TABLE added (id INTEGER)")
    op.execute("{statement}")
"""


@pytest.fixture
def next_version(monkeypatch, tmp_path):
    """Return what gives this bonewatch one more migration, which ends with a statement."""

    def make(statement):
        folder = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
        (folder / "versions" / "0002_next.py").write_text(NEXT_MIGRATION.format(statement=statement))
        monkeypatch.setattr("worker.db.database.MIGRATIONS", folder)
        _scripts.cache_clear()

    yield make
    _scripts.cache_clear()


def test_a_schema_of_the_past_names_the_command_that_upgrades_it(database, next_version):
    next_version("CREATE TABLE added_too (id INTEGER)")
    with pytest.raises(DatabaseNotUpgraded, match=r"older schema 0001, not 0002.*bonewatch db upgrade"):
        check_revision(database)

    assert upgrade(database.url) == ("0001", "0002")
    check_revision(database)


def test_an_upgrade_that_fails_leaves_nothing_half_done(database, next_version):
    next_version("INSERT INTO no_such_table VALUES (1)")
    with pytest.raises(DatabaseUnavailable, match="no_such_table"):
        upgrade(database.url)

    assert current_revision(database) == "0001"
    assert "added" not in inspect(database.engine).get_table_names()
