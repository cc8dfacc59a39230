"""Deleting old files: only what every PACS has committed, marked before it goes, and kept again when it comes again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from dicom_io.errors import StoreError
from dicom_io.header.scope import ScopeRule
from dicom_io.types import Peer, Registration, StoredFile
from tests.databases import MORNING, a_study, an_instance, header
from worker.cli.root import app
from worker.db.tables import Delivery, Event, Instance, Job, Report, Study
from worker.errors import FilesDeleted
from worker.operate.purge import estimate, purge
from worker.operate.retries import retry_failed, retry_study
from worker.reception.intake import SqlIntake
from worker.storage.file_removal import PURGED, mark, marked, remove_marked

LATER = MORNING + timedelta(days=400)


class Store:
    """Remembers what was discarded; refuses where it is told to."""

    def __init__(self):
        self.gone = []
        self.broken = False

    def discard(self, stored):
        if self.broken:
            raise StoreError("the disk is read-only")
        self.gone.append(stored.path)


def fill(database, number=1, *, job="done", outcome="present", report="built", deliveries=("committed",), **values):
    with database.write() as session:
        study = a_study(session, number, **values)
        an_instance(session, study, 1, path=f"instances/{number}.dcm", sop_instance_uid=f"2.25.{number}.1")
        made = Job(study_id=study.id, digest="d", model_version="m", state=job, outcome=outcome, created_at=MORNING)
        session.add(made)
        session.flush()
        if report:
            row = Report(job_id=made.id, state=report, path=f"reports/{number}.dcm", built_at=MORNING)
            session.add(row)
            session.flush()
            for place, state in enumerate(deliveries):
                session.add(Delivery(report_id=row.id, destination=f"pacs{place}", state=state))
        return study.id


def run(database, store):
    return list(purge(database, store, LATER, by="admin"))


def test_a_study_that_every_pacs_holds_loses_its_files_and_keeps_its_rows(database):
    study_id, store = fill(database, deliveries=("committed", "committed")), Store()
    found = estimate(database, LATER)
    assert (found.studies, found.instances, found.size_bytes, found.kept) == (1, 1, 1000, 0)

    (removed,) = run(database, store)

    assert (removed.instances, removed.reports, removed.size_bytes) == (1, 1, 1000)
    assert store.gone == ["instances/1.dcm", "reports/1.dcm"]
    with database.read() as session:
        instance, report = session.scalars(select(Instance)).one(), session.scalars(select(Report)).one()
        assert instance.file_deleted_reason == PURGED
        assert instance.file_deleted_at is not None
        assert report.file_deleted_at == instance.file_deleted_at
        event = session.scalars(select(Event).where(Event.kind == "files_deleted")).one()
        assert (event.study_id, event.detail["by"], event.detail["instances"]) == (study_id, "admin", 1)
    assert run(database, store) == []
    assert estimate(database, LATER).studies == 0


@pytest.mark.parametrize(
    "kept",
    [
        {"deliveries": ("committed", "sent")},
        {"deliveries": ("failed",)},
        {"deliveries": ()},
        {"report": "failed", "deliveries": ()},
        {"job": "queued", "report": None},
        {"job": "running", "report": None},
        {"job": "failed", "report": None},
        {"state": "receiving"},
        {"last_instance_at": LATER},
    ],
)
def test_what_is_not_old_answered_and_committed_is_kept(database, kept):
    fill(database, **kept)
    store = Store()
    assert run(database, store) == []
    assert store.gone == []


def test_a_study_to_which_no_report_was_due_may_go(database):
    fill(database, outcome="out_of_scope", report=None)
    assert [each.instances for each in run(database, Store())] == [1]


def test_an_earlier_job_whose_report_is_not_committed_keeps_the_study(database):
    study_id = fill(database, deliveries=("pending",))
    with database.write() as session:
        later = Job(study_id=study_id, digest="d", model_version="n", state="done", outcome="absent", created_at=LATER)
        session.add(later)
    assert run(database, Store()) == []


def test_a_purge_that_was_killed_between_mark_and_deletion_is_finished_by_the_next(database):
    study_id, store = fill(database), Store()
    assert mark(database, study_id, Study.id > 0, PURGED)
    assert marked(database, 10) == (study_id,)

    assert [each.instances for each in run(database, store)] == [1]
    assert store.gone == ["instances/1.dcm", "reports/1.dcm"]
    assert marked(database, 10) == ()


def test_a_file_that_cannot_be_deleted_stays_marked_and_is_not_called_deleted(database):
    study_id, store = fill(database), Store()
    store.broken = True
    with pytest.raises(StoreError):
        run(database, store)
    with database.read() as session:
        assert session.scalars(select(Instance)).one().file_deleted_at is None
    assert marked(database, 10) == (study_id,)


def test_work_that_needs_the_files_is_refused_with_the_reason(database):
    fill(database, job="done", outcome="failed")
    run(database, Store())
    with pytest.raises(FilesDeleted, match="send them again"):
        retry_study(database, "2.25.1", model_version="m")
    assert retry_failed(database, model_version="m") == ()


def test_an_image_that_comes_again_is_kept_again(database):
    study_id, store = fill(database), Store()
    intake = SqlIntake(database, ScopeRule(), lambda _: 1.0)
    again = header(instance="2.25.1.1", study="2.25.1")
    stored, peer = StoredFile("instances/1.dcm", f"{1:064x}", 1000), Peer("PACS", "10.0.0.5")
    assert mark(database, study_id, Study.id > 0, PURGED)

    assert intake.known("2.25.1.1").deleted
    assert intake.register(again, stored, peer) is Registration.RESTORED
    assert (intake.known("2.25.1.1").stored, intake.known("2.25.1.1").deleted) == (stored, False)
    remove_marked(database, store, study_id, by="admin", now=LATER)
    assert store.gone == []
    assert intake.register(again, stored, peer) is Registration.DUPLICATE
    assert retry_study(database, "2.25.1", model_version="m") is not None


def test_the_command_asks_first_and_deletes_the_real_files(database, tmp_path, monkeypatch):
    fill(database)
    fill(database, 2, deliveries=("sent",))
    files = [tmp_path / "store" / name for name in ("instances/1.dcm", "reports/1.dcm", "instances/2.dcm")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path))
    arguments = ["purge", "--older-than", "30d"]

    refused = CliRunner().invoke(app, arguments, input="n\n")
    assert (refused.exit_code, [file.exists() for file in files]) == (1, [True] * 3)
    assert "would delete the files of 1 studies" in refused.stdout
    done = CliRunner().invoke(app, [*arguments, "--yes"])
    assert (done.exit_code, [file.exists() for file in files]) == (0, [False, False, True])
    assert "1 studies of that age are kept" in done.stdout
