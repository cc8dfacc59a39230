"""What a person wants kept passes the listener's rules, and is never called stored before all of it is on record."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tests.builders import build_dx, part10_bytes, ramp
from tests.fakes import FakeIntake
from worker.db.tables import Event, Instance, Rejection
from worker.errors import DatabaseUnavailable
from worker.reception import kept_uploads
from worker.reception.kept_uploads import UNTRACED, KeptUploads, build_kept_uploads
from worker.settings.settings import load_settings

WHOLE = part10_bytes(build_dx(pixels=ramp(40, 60)))
DIRECTORY = "1.2.840.10008.1.3.10"
PRIVATE = "1.2.840.113619.5.2"


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path, minimum_free_bytes=0)


@pytest.fixture
def keeper(settings, database):
    return build_kept_uploads(settings, database)


def rows(database, table):
    with database.read() as session:
        return session.scalars(select(table).order_by(table.id)).all()


def traced(database):
    return [each.kind for each in rows(database, Event) if each.kind.startswith("upload_")]


def of_class(uid):
    ds = build_dx(pixels=ramp(40, 60))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid
    return part10_bytes(ds)


def without_study():
    ds = build_dx(pixels=ramp(40, 60))
    del ds.StudyInstanceUID
    return part10_bytes(ds)


def in_syntax(uid):
    """Return the whole file with another transfer syntax of the same length named."""
    ours = b"1.2.840.10008.1.2.1\0"
    assert WHOLE.count(ours) == 1
    return WHOLE.replace(ours, uid.encode().ljust(len(ours), b"\0"))


def test_what_is_kept_is_told_from_what_a_pacs_sent(keeper, database):
    assert keeper.keep(WHOLE, "ada") is None
    (instance,) = rows(database, Instance)
    assert (instance.calling_ae_title, instance.peer_address, instance.source) == ("UPLOAD", "page", "upload")


def test_the_header_of_an_upload_is_parsed_once(keeper, database, monkeypatch):
    monkeypatch.setattr("dicom_io.receive.reception.read_data_set_header", None)
    assert keeper.keep(WHOLE, "ada") is None
    assert len(rows(database, Instance)) == 1


@pytest.mark.parametrize(
    ("broken", "code"),
    [(b"no DICOM at all", "header"), (WHOLE[:200], "header"), (without_study(), "header_incomplete")],
)
def test_a_header_that_cannot_be_read_is_refused_recorded_and_the_file_put_aside(
    keeper, database, settings, broken, code
):
    said = keeper.keep(broken, "ada")
    (row,) = rows(database, Rejection)
    assert said == f"was not stored: {row.reason}"
    assert (row.code, row.calling_ae_title, row.status) == (code, "UPLOAD", None)
    assert (settings.store / row.quarantine_path).read_bytes() == broken
    assert traced(database) == ["upload_refused"]


@pytest.mark.parametrize(
    ("strange", "code", "words"),
    [
        (of_class(DIRECTORY), "sop_class_unsuitable", f"SOP class {DIRECTORY} is not one of objects that are stored"),
        (in_syntax(PRIVATE), "transfer_syntax_unknown", f"transfer syntax {PRIVATE} is unknown"),
    ],
)
def test_what_the_listener_accepts_no_context_for_is_refused_and_recorded(keeper, database, strange, code, words):
    said = keeper.keep(strange, "ada")
    (row,) = rows(database, Rejection)
    assert said == f"was not stored: {row.reason}"
    assert row.reason.startswith(words)
    assert (row.code, row.calling_ae_title, row.quarantine_path) == (code, "UPLOAD", None)
    assert row.sop_instance_uid is not None
    assert rows(database, Instance) == []
    assert traced(database) == ["upload_refused"]


class Away:
    """A database that cannot take the trace."""

    def __init__(self, error):
        self.error = error

    @contextmanager
    def write(self):
        raise self.error
        yield


@pytest.mark.parametrize("error", [DatabaseUnavailable("gone"), IntegrityError("INSERT", {}, Exception("no"))])
def test_without_its_trace_nothing_is_called_stored_and_the_next_try_writes_it(
    settings, database, keeper, monkeypatch, error
):
    monkeypatch.setattr(keeper, "_database", Away(error))
    assert keeper.keep(WHOLE, "ada") == UNTRACED
    assert len(rows(database, Instance)) == 1
    assert traced(database) == []

    monkeypatch.setattr(keeper, "_database", database)
    assert keeper.keep(WHOLE, "ada") is None
    assert len(rows(database, Instance)) == 1
    assert traced(database) == ["upload_kept"]


def test_what_was_refused_is_never_said_to_be_stored_perhaps(settings, keeper, monkeypatch):
    monkeypatch.setattr(keeper, "_database", Away(DatabaseUnavailable("gone")))
    assert keeper.keep(b"no DICOM at all", "ada").startswith("was not stored: ")


def test_a_refusal_that_cannot_be_recorded_is_one_all_the_same(settings, database):
    keeper = KeptUploads(database, kept_uploads.store_of(settings), FakeIntake(unavailable=True), 2**20)
    assert keeper.keep(WHOLE[:200], "ada").startswith("was not stored: ")
