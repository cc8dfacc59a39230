"""A received file without a row: the sweep takes it in, or puts it aside, and never takes a row's file away.

tests/integration/postgresql runs the same.
"""

from __future__ import annotations

import io
import os
import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_io.header.header import read_file_meta, read_header
from dicom_io.header.scope import ScopeRule
from dicom_io.network.wire import IncomingDataSet
from dicom_io.receive.intake import IntakeUnavailable
from dicom_io.receive.reception import Arrival, Reception
from dicom_io.store.folder import InstanceStore
from dicom_io.types import Peer
from tests.builders import build_cr, part10_bytes
from tests.databases import a_study, an_instance, count, kinds, only
from worker.db.events import record
from worker.db.tables import Instance, ReanalysisItem, ReanalysisRun, Rejection, Study
from worker.reception.intake import SqlIntake
from worker.storage import unrecorded
from worker.storage.unrecorded import AGE, REST, UnrecordedFiles
from worker.study.studies import Models, close_quiet_studies

PEER = Peer("PACS", "10.0.0.5")
LARGEST = 1 << 24


class Bench:
    def __init__(self, folder, database, clock):
        self.database, self.clock = database, clock
        self.store = InstanceStore(folder / "store")
        self.intake = SqlIntake(database, ScopeRule(), backoff=float, clock=clock)
        self.reception = Reception(self.store, self.intake)
        self.files = UnrecordedFiles(database, self.store, self.reception, LARGEST, clock)

    def arrival(self, part10, store=None):
        stream, header = io.BytesIO(part10), read_header(part10)
        read_file_meta(stream)
        incoming = IncomingDataSet(self.store.spool, LARGEST)
        incoming.write(stream.read())
        return Arrival(header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid, incoming, PEER)

    def take(self, part10, reception=None):
        return (reception or self.reception).take(self.arrival(part10)).status

    def killed_before_the_row(self, part10):
        """Store a file as a reception does, and no more; return its place."""
        stored = self.store.put(part10, read_header(part10))
        self.written(stored.path)
        return stored.path

    def written(self, path, ago=AGE):
        moment = (self.clock() - ago).timestamp()
        os.utime(self.store.path(path), (moment, moment))

    def walk(self):
        """Walk through the whole store once."""
        self.clock.advance(REST.total_seconds())
        return self.files.step()

    def names(self, folder="instances"):
        found = (self.store.root / folder).rglob("*.dcm")
        return sorted(path.relative_to(self.store.root).as_posix() for path in found)


@pytest.fixture
def bench(tmp_path, database, clock):
    return Bench(tmp_path, database, clock)


def test_a_file_whose_process_was_killed_before_its_row_is_registered_and_answered(bench, database, clock):
    path = bench.killed_before_the_row(part10_bytes(build_cr()))

    assert bench.walk() == 1

    row, study = only(database, Instance), only(database, Study)
    assert (row.path, row.out_of_scope_reason, row.calling_ae_title) == (path, None, "RECOVERED")
    assert (study.state, study.source) == ("receiving", "push")
    assert kinds(database) == ["received_first", "instance_recovered"]
    assert len(close_quiet_studies(database, Models("m"), quiet_seconds=0, now=clock(), limit=9)) == 1
    assert bench.walk() == 0


def test_a_file_whose_database_was_away_is_registered_when_nobody_sends_it_again(bench, database):
    class Away(SqlIntake):
        def register(self, header, stored, peer):
            raise IntakeUnavailable("the database is locked")

    away = Reception(bench.store, Away(database, ScopeRule(), backoff=float))
    assert bench.take(part10_bytes(build_cr()), away) == 0xA700
    assert count(database, Instance) == 0
    (path,) = bench.names()
    bench.written(path)

    assert bench.walk() == 1
    assert only(database, Instance).path == path


def test_a_file_that_a_reception_may_just_be_at_work_on_is_left_alone(bench, database):
    path = bench.killed_before_the_row(part10_bytes(build_cr()))
    bench.clock.advance(REST.total_seconds())
    bench.written(path, ago=AGE - timedelta(seconds=1))

    assert bench.files.step() == 0
    assert (count(database, Instance), bench.names()) == (0, [path])


def test_what_is_on_record_is_left_alone_deleted_or_not(bench, database):
    assert bench.take(part10_bytes(build_cr())) == 0
    (path,) = bench.names()
    bench.written(path)
    with database.write() as session:
        session.scalars(select(Instance)).one().file_deleted_reason = "purged"

    assert bench.walk() == 0
    assert bench.names() == [path]
    assert count(database, Rejection) == 0


def test_a_leftover_of_a_refused_object_is_put_into_quarantine_and_on_record(bench, database):
    """Refused as a second content under its UID, and killed before it was moved away."""
    assert bench.take(part10_bytes(build_cr())) == 0
    (kept,) = bench.names()
    leftover = bench.killed_before_the_row(part10_bytes(build_cr(Rows=9, Columns=9)))

    assert bench.walk() == 1

    assert bench.names() == [kept]
    row = only(database, Rejection)
    assert (row.code, bench.names("quarantine")) == ("file_without_row", [row.quarantine_path])
    assert leftover.rsplit(".", 2)[1] in row.quarantine_path
    assert only(database, Instance).path == kept


def test_a_file_that_was_replaced_and_not_removed_goes(bench, database):
    """The patient was corrected; the process was killed before the old file went."""
    before = part10_bytes(build_cr(PatientID="TEMPORARY"))
    assert bench.take(before) == 0
    assert bench.take(part10_bytes(build_cr(PatientID="P-1"))) == 0
    (kept,) = bench.names()
    bench.killed_before_the_row(before)

    assert bench.walk() == 1
    assert (bench.names(), bench.names("quarantine")) == ([kept], [])
    assert only(database, Instance).patient_id == "P-1"


def test_the_only_copy_is_taken_in_where_the_file_of_its_row_is_gone(bench, database):
    """As after a database was restored from a backup that is older than a correction."""
    assert bench.take(part10_bytes(build_cr(PatientID="TEMPORARY"))) == 0
    (old,) = bench.names()
    corrected = bench.killed_before_the_row(part10_bytes(build_cr(PatientID="P-1")))
    bench.store.path(old).unlink()

    assert bench.walk() == 1
    assert (only(database, Instance).path, bench.names()) == (corrected, [corrected])


@pytest.mark.parametrize("sent_again", [False, True])
def test_a_file_of_a_study_that_was_forgotten_goes_and_one_that_was_sent_since_does_not(bench, database, sent_again):
    part10 = part10_bytes(build_cr())
    path = bench.killed_before_the_row(part10)
    moment = bench.clock() - 2 * AGE if sent_again else bench.clock()
    with database.write() as session:
        uid = read_header(part10).study_instance_uid
        record(session, "study_forgotten", moment, by="somebody", study_instance_uid=uid, instances=1)

    assert bench.walk() == 1
    assert (bench.names(), count(database, Study)) == (([path], 1) if sent_again else ([], 0))
    assert bench.names("quarantine") == []


def test_a_file_that_rotted_is_put_into_quarantine_and_not_registered(bench, database):
    path = bench.killed_before_the_row(part10_bytes(build_cr()))
    bench.store.path(path).write_bytes(b"nothing of DICOM")
    bench.written(path)

    assert bench.walk() == 1
    assert (count(database, Instance), bench.names()) == (0, [])
    assert only(database, Rejection).quarantine_path in bench.names("quarantine")


def test_no_row_loses_its_file_to_the_sweep_when_the_same_bytes_come_at_that_moment(bench, database):
    """The file is put aside after a reception has seen it and before its row: the sender is answered Success."""
    assert bench.take(part10_bytes(build_cr())) == 0
    with database.write() as session:
        session.delete(session.scalars(select(Instance)).one())
    (path,) = bench.names()

    class Overtaken(SqlIntake):
        def register(self, header, stored, peer):
            bench.store.quarantine(stored, header.sop_instance_uid)
            return super().register(header, stored, peer)

    overtaken = Reception(bench.store, Overtaken(database, ScopeRule(), backoff=float, clock=bench.clock))
    assert bench.take(part10_bytes(build_cr()), overtaken) == 0
    assert only(database, Instance).path == path
    assert bench.names() == [path]


def test_a_file_that_gets_its_row_while_it_is_looked_at_is_not_put_aside(bench, database):
    part10 = part10_bytes(build_cr())
    path = bench.killed_before_the_row(part10)
    with database.read() as session:
        assert session.scalars(select(Instance)).all() == []
    (found,) = bench.files._without_row({path: 0.0})
    assert bench.take(part10) == 0

    assert not bench.files._set_aside(found, "looked at too early")
    assert bench.names() == [path]
    assert count(database, Rejection) == 0


def test_many_receptions_and_sweeps_at_once_leave_a_file_and_a_row_of_each_image(bench, database):
    images = [part10_bytes(build_cr(study=f"s{n}", instance=f"i{n}")) for n in range(6)]
    for image in images:
        bench.killed_before_the_row(image)
    sweeps = [UnrecordedFiles(database, bench.store, bench.reception, LARGEST, bench.clock) for _ in range(3)]
    statuses = []
    work = [threading.Thread(target=each.step) for each in sweeps]
    work += [threading.Thread(target=lambda image=image: statuses.append(bench.take(image))) for image in images]
    for each in work:
        each.start()
    for each in work:
        each.join()

    assert statuses == [0] * len(images)
    with database.read() as session:
        rows = sorted(session.scalars(select(Instance.path)))
    assert rows == bench.names()
    assert len(rows) == len(images)
    assert count(database, Rejection) == 0


@pytest.mark.parametrize("state", ["retrieving", "retrieved"])
def test_a_part_of_a_study_that_a_reanalysis_fetches_is_not_taken_for_todays_work(bench, database, state):
    """Analysed alone it could be answered absent, and the missing image be the one with the fracture."""
    part10 = part10_bytes(build_cr())
    path = bench.killed_before_the_row(part10)
    with database.write() as session:
        run = ReanalysisRun(source="archive", direction="newest", model_version="m", state="running",
                            asked_by="night", created_at=bench.clock())  # fmt: skip
        session.add(run)
        session.flush()
        uid = read_header(part10).study_instance_uid
        item = ReanalysisItem(run_id=run.id, study_instance_uid=uid, state=state, found_at=bench.clock())
        session.add(item)

    assert bench.walk() == 0
    assert (count(database, Study), bench.names()) == (0, [path])


def test_a_store_is_walked_through_a_page_at_a_time_and_then_rested(bench, database, monkeypatch):
    monkeypatch.setattr(unrecorded, "PAGE", 2)
    for number in range(5):
        bench.killed_before_the_row(part10_bytes(build_cr(study=f"s{number}", instance=f"i{number}")))

    assert [bench.files.step() for _ in range(4)] == [2, 2, 1, 0]
    assert count(database, Instance) == 5


def test_what_others_have_put_into_the_folder_is_not_touched(bench, database):
    with database.write() as session:
        an_instance(session, a_study(session))
    for name in ("notes.dcm", "1.2/1.3/notes.dcm", "1.2/1.3/1.4.0123456789abcdef.part"):
        path = bench.store.root / "instances" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (0, 0))

    assert bench.walk() == 0
    assert count(database, Rejection) == 0
