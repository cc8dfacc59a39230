"""A study whose data must go: all of it or nothing, and one event that says so without patient data."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from dicom_io.errors import StoreError
from dicom_io.header.scope import ScopeRule
from dicom_io.types import Peer, Registration, StoredFile
from tests.databases import MORNING, a_delivery, a_job, a_study, an_image, an_instance, count, header, only
from worker.cli.root import app
from worker.db.events import record
from worker.db.tables import (
    Base,
    Companion,
    Delivery,
    Event,
    Instance,
    Job,
    Move,
    ReanalysisItem,
    ReanalysisRun,
    Rejection,
    ReplacedInstance,
    Report,
    Study,
)
from worker.errors import StudyBusy, UnknownStudy
from worker.operate.forget import FORGOTTEN, data_of, forget
from worker.reception.intake import SqlIntake

LATER = MORNING + timedelta(days=400)
FILES = (
    *("instances/{0}1.dcm", "instances/{0}2.dcm", "reports/2.25.{0}01.dcm", "reports/2.25.{0}02.dcm"),
    *("reports/2.25.{0}03.dcm", "quarantine/{0}.dcm"),
)


class Store:
    """Remembers what was discarded; refuses where it is told to."""

    def __init__(self):
        self.gone = set()
        self.broken = False

    def discard(self, stored):
        if self.broken and len(self.gone) > 1:
            raise StoreError("the disk is read-only")
        self.gone.add(stored.path)


def fill(database, number=1, *, job="done", delivery="committed", picture="committed", item="analysis", **values):
    """Write a study with everything that may hang on it."""
    with database.write() as session:
        study = a_study(session, number, **values)
        for image in (1, 2):
            one = an_instance(session, study, image, path=f"instances/{number}{image}.dcm")
        finished = MORNING if job == "done" else None
        made = a_job(session, study, state=job, finished_at=finished, outcome="present" if finished else None)
        an_image(session, made, one, boxes=2)
        # The form for a PACS that takes no Comprehensive 3D SR has another UID.
        sent = a_delivery(session, made, state=delivery, sop_instance_uid=f"2.25.{number}02")
        report = session.get_one(Report, sent.report_id)
        report.sop_instance_uid, report.path = f"2.25.{number}01", f"reports/2.25.{number}01.dcm"
        capture = Companion(
            report=report, kind="capture", number=1, state="built", path=f"reports/2.25.{number}03.dcm",
            sop_instance_uid=f"2.25.{number}03",
        )  # fmt: skip
        session.add(capture)
        session.flush()
        session.add(Delivery(companion_id=capture.id, destination="pacs", state=picture))
        session.add(Move(study_instance_uid=study.study_instance_uid, message_id=1, ae_title="PACS", until=MORNING))
        run = session.scalars(select(ReanalysisRun)).first() or ReanalysisRun(
            source="store",
            direction="newest",
            model_version="m",
            state="running",
            asked_by="a test",
            created_at=MORNING,
        )
        session.add(run)
        session.flush()
        session.add(
            ReanalysisItem(
                run_id=run.id, study_instance_uid=study.study_instance_uid, job_id=made.id, state=item, found_at=MORNING
            )
        )
        session.add(
            Rejection(
                at=MORNING, code="duplicate_uid", reason="another", calling_ae_title="PACS", peer_address="10.0.0.5",
                sop_instance_uid=one.sop_instance_uid, quarantine_path=f"quarantine/{number}.dcm",
            )
        )  # fmt: skip
        session.add(
            ReplacedInstance(
                instance_id=one.id, replaced_at=MORNING, patient_id="P-OLD", transfer_syntax_uid="1.2", path="gone",
                digest="d", size_bytes=1, calling_ae_title="PACS", peer_address="10.0.0.5", source="push",
                received_at=MORNING,
            )
        )  # fmt: skip
        record(session, "page_viewed", MORNING, study_id=study.id, job_id=made.id, by="somebody")
        return study.study_instance_uid


def rows(database):
    """Return how many rows there are in each table."""
    with database.read() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) for table in Base.metadata.sorted_tables
        }


def test_everything_of_a_study_goes_and_one_event_stays(database):
    fill(database, 1)
    before = rows(database)
    uid, store = fill(database, 2), Store()

    removed = forget(database, store, uid, by="admin", now=LATER)

    assert (removed.instances, removed.answers, removed.reports, removed.quarantined) == (2, 1, 1, 1)
    assert store.gone == {name.format(2) for name in FILES}
    assert rows(database) == before | {"events": before["events"] + 1}
    assert only(database, Study).study_instance_uid == "2.25.1"
    with database.read() as session:
        told = session.scalars(select(Event).order_by(Event.id.desc())).first()
        assert (told.kind, told.study_id, told.at) == ("study_forgotten", None, LATER)
        assert (told.detail["by"], told.detail["study_instance_uid"], told.detail["instances"]) == ("admin", uid, 2)
        assert "P-2" not in str(told.detail)
        assert "A-2" not in str(told.detail)
    with pytest.raises(UnknownStudy):
        forget(database, store, uid, by="admin", now=LATER)


@pytest.mark.parametrize(
    ("busy", "words"),
    [
        ({"job": "queued"}, "waits or runs"),
        ({"job": "running"}, "waits or runs"),
        ({"state": "receiving"}, "still arrive"),
        ({"delivery": "pending"}, "on its way"),
        ({"delivery": "sent"}, "on its way"),
        ({"picture": "sending"}, "on its way"),
        ({"item": "retrieving"}, "re-analysis"),
        ({"item": "retrieved"}, "re-analysis"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_a_study_on_which_work_runs_or_waits_is_not_forgotten(database, busy, words):
    uid, store = fill(database, **busy), Store()
    before = rows(database)
    assert words in data_of(database, uid).obstacle
    with pytest.raises(StudyBusy, match=words):
        forget(database, store, uid, by="admin", now=LATER)
    assert (store.gone, rows(database)) == (set(), before)
    with database.read() as session:
        assert set(session.scalars(select(Instance.file_deleted_reason))) == {None}


def test_one_that_waits_for_a_decision_can_be_forgotten(database):
    uid = fill(database, held_reason="two patients")
    forget(database, Store(), uid, by="admin", now=LATER)
    assert count(database, Study) == 0


def test_one_that_was_killed_while_it_was_forgotten_is_forgotten_by_the_next_try(database):
    uid, store = fill(database), Store()
    store.broken = True
    with pytest.raises(StoreError):
        forget(database, store, uid, by="admin", now=LATER)
    with database.read() as session:
        assert set(session.scalars(select(Instance.file_deleted_reason))) == {FORGOTTEN}, "no row promises a file"
    store.broken = False
    forget(database, store, uid, by="admin", now=LATER)
    assert (count(database, Study), store.gone) == (0, {name.format(1) for name in FILES})


def test_an_image_that_arrives_meanwhile_keeps_the_study(database):
    uid, store = fill(database), Store()
    intake = SqlIntake(database, ScopeRule(), lambda _: 1.0)

    class Meanwhile:
        def __init__(self, database):
            self.database, self.times = database, 0

        def write(self):
            self.times += 1
            if self.times == 2:
                again = header(instance=f"{uid}.1", study=uid)
                stored = StoredFile("instances/11.dcm", f"{1:064x}", 1000)
                assert intake.register(again, stored, Peer("PACS", "10.0.0.5")) is Registration.RESTORED
            return self.database.write()

    with pytest.raises(StudyBusy, match="just arrived"):
        forget(Meanwhile(database), store, uid, by="admin", now=LATER)
    assert (store.gone, count(database, Job)) == (set(), 1)


def test_the_command_takes_an_accession_number_asks_first_and_deletes_the_real_files(database, tmp_path, monkeypatch):
    fill(database, 1)
    fill(database, 2)
    files = [tmp_path / "store" / name.format(number) for number in (1, 2) for name in FILES]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path))

    dry = CliRunner().invoke(app, ["forget", "A-2", "--dry-run"])
    refused = CliRunner().invoke(app, ["forget", "A-2"], input="n\n")
    assert (dry.exit_code, refused.exit_code) == (0, 1)
    assert "would remove: 2 instances" in dry.stdout
    assert all(file.exists() for file in files)

    done = CliRunner().invoke(app, ["forget", "A-2", "--yes"])
    assert done.exit_code == 0, done.output
    assert [file.exists() for file in files] == [True] * len(FILES) + [False] * len(FILES)
    assert CliRunner().invoke(app, ["forget", "A-2", "--yes"]).exit_code == 1


def test_the_command_names_what_is_in_the_way_and_will_not_guess_between_studies(database, tmp_path, monkeypatch):
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path))
    fill(database, 1, job="queued")
    fill(database, 2, accession_number="A-1")

    several = CliRunner().invoke(app, ["forget", "A-1", "--yes"])
    busy = CliRunner().invoke(app, ["forget", "2.25.1", "--yes"])

    assert (several.exit_code, busy.exit_code) == (1, 1)
    assert [line.strip() for line in several.output.splitlines()[1:3]] == ["2.25.2", "2.25.1"]
    assert "waits or runs" in busy.output
    assert count(database, Study) == 2
