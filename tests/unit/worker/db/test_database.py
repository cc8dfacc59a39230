"""Sessions and versions of the schema, on SQLite here and on PostgreSQL in tests/integration/postgresql."""

from __future__ import annotations

import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.databases import MORNING
from worker.db import tables
from worker.db.database import check_revision, upgrade
from worker.db.tables import Base, Event, Instance, Study
from worker.errors import DatabaseOfAnotherVersion


def new_study(number=1, **values):
    return Study(study_instance_uid=f"2.25.{number}", first_instance_at=MORNING, last_instance_at=MORNING, **values)


def write_and_fail(session):
    session.add(new_study())
    session.flush()
    raise ZeroDivisionError


def words(sql):
    """Return the words in quotes, which every database keeps, whatever else it makes of a condition."""
    return sorted(re.findall(r"'(\w+)'", sql))


# Neither reads back an index on an expression from SQLite; from PostgreSQL both do.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_the_migrations_make_exactly_the_tables_of_the_code(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_make_the_checks_of_the_code(database):
    # Alembic does not compare CHECK constraints.
    inspector = inspect(database.engine)
    for table in Base.metadata.sorted_tables:
        checks = [item for item in table.constraints if isinstance(item, CheckConstraint)]
        written = {item.name: words(str(item.sqltext)) for item in checks}
        found = {item["name"]: words(item["sqltext"]) for item in inspector.get_check_constraints(table.name)}
        assert found == written, table.name


def test_an_unknown_state_is_refused_by_the_database_itself(database):
    with pytest.raises(DBAPIError, match="ck_studies_state"), database.write() as session:
        session.add(new_study(state="sleeping"))


def test_a_row_without_its_parent_is_refused(database):
    with pytest.raises(DBAPIError, match=r"(?i)foreign key constraint"), database.write() as session:
        session.add(Event(at=MORNING, kind="lost", study_id=4711, detail={}))


def test_what_a_block_has_written_is_there_after_it(database):
    with database.write() as session:
        session.add(new_study())
    with database.read() as session:
        assert session.scalars(select(Study.study_instance_uid)).all() == ["2.25.1"]


def test_a_block_that_raises_leaves_nothing(database):
    with pytest.raises(ZeroDivisionError), database.write() as session:
        write_and_fail(session)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 0


def test_a_moment_comes_back_with_its_offset(database):
    with database.write() as session:
        session.add(new_study())
    with database.read() as session:
        assert session.scalars(select(Study.last_instance_at)).one() == MORNING
        assert session.scalars(select(Study.last_instance_at)).one().tzinfo is not None


def test_a_schema_that_is_not_known_is_refused_with_what_to_do(database):
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseOfAnotherVersion, match=r"of another bonewatch.*9999.*install that version"):
        check_revision(database)
    with pytest.raises(DatabaseOfAnotherVersion):
        upgrade(database.url)


def test_every_moment_of_the_code_is_a_moment_with_offset():
    columns = [column for table in Base.metadata.sorted_tables for column in table.columns]
    moments = [column for column in columns if column.name.endswith(("_at", "_until")) or column.name == "at"]
    assert len(moments) > 15
    assert {type(column.type) for column in moments} == {tables.UtcDateTime}


def test_a_moment_without_offset_is_not_stored(database):
    with pytest.raises(Exception, match="without a time zone"), database.write() as session:
        session.add(Event(at=MORNING.replace(tzinfo=None), kind="x", detail={}))


def test_every_instance_belongs_to_one_study_only(database):
    with database.write() as session:
        session.add_all([new_study(1), new_study(2)])
    row = {
        "sop_instance_uid": "2.25.9", "sop_class_uid": "1.2", "series_instance_uid": "2.25.8", "path": "x",
        "transfer_syntax_uid": "1.2.840.10008.1.2", "digest": "0" * 64, "size_bytes": 1, "number_of_frames": 1,
        "calling_ae_title": "PACS", "peer_address": "10.0.0.5", "received_at": MORNING,
    }  # fmt: skip
    with pytest.raises(IntegrityError), database.write() as session:
        session.add_all([Instance(study_id=1, **row), Instance(study_id=2, **row)])
