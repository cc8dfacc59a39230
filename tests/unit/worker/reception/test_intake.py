"""What the listener's records become, on SQLite here and on PostgreSQL in tests/integration/postgresql."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, select, text

from dicom_io.header.header import read_header
from dicom_io.header.scope import ScopeRule
from dicom_io.receive.intake import IntakeUnavailable
from dicom_io.types import Peer, Refusal, Registration, StoredFile
from tests.builders import build_dx, coded, part10_bytes
from tests.databases import MORNING, a_delivery, a_job, count, header, kinds, only
from worker.db.tables import Event, Instance, Job, Rejection, Study
from worker.operate.results import results
from worker.reception.intake import SqlIntake
from worker.study.studies import CAME_BACK, Models, close_quiet_studies, study_digest

PEER = Peer("PACS", "10.0.0.5")
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NO_IMAGES = {
    "comprehensive 3D SR": "1.2.840.10008.5.1.4.1.1.88.34",
    "basic text SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "key object selection": "1.2.840.10008.5.1.4.1.1.88.59",
    "grayscale presentation state": "1.2.840.10008.5.1.4.1.1.11.1",
    "encapsulated PDF": ENCAPSULATED_PDF,
    "raw data": "1.2.840.10008.5.1.4.1.1.66",
    "private": "1.2.276.0.99.1",
}.values()
TRANSACTION = "2.25.777"


@pytest.fixture
def intake(database, clock):
    return SqlIntake(database, ScopeRule(), backoff=lambda attempts: 10.0 * attempts, clock=clock)


def stored(digest="a"):
    return StoredFile(f"instances/{digest}.dcm", digest * 64, 4711)


def complete(database, clock):
    with database.write() as session:
        study = session.scalars(select(Study)).one()
        study.state, study.completed_at = "complete", clock()


def test_the_first_instance_makes_the_study(intake, database):
    assert intake.register(header(), stored(), PEER) is Registration.NEW
    study, instance = only(database, Study), only(database, Instance)
    assert (study.study_instance_uid, study.patient_id, study.accession_number) == ("2.25.1", "P-1", "A-1")
    assert (study.state, study.first_instance_at, study.last_instance_at) == ("receiving", MORNING, MORNING)
    assert (instance.study_id, instance.sop_instance_uid, instance.patient_id) == (study.id, "2.25.101", "P-1")
    assert (instance.path, instance.digest, instance.size_bytes) == ("instances/a.dcm", "a" * 64, 4711)
    assert (instance.calling_ae_title, instance.peer_address) == ("PACS", "10.0.0.5")
    assert instance.out_of_scope_reason is None
    assert kinds(database) == ["received_first"]


def test_every_new_instance_starts_the_quiet_time_anew(intake, database, clock):
    intake.register(header("2.25.101"), stored(), PEER)
    clock.advance(20)
    intake.register(header("2.25.102"), stored("b"), PEER)
    study = only(database, Study)
    assert (study.first_instance_at, study.last_instance_at) == (MORNING, MORNING + timedelta(seconds=20))
    assert kinds(database) == ["received_first"]


def test_the_quiet_time_never_runs_backwards(intake, database, clock):
    intake.register(header("2.25.101"), stored(), PEER)
    clock.advance(-5)
    intake.register(header("2.25.102"), stored("b"), PEER)
    assert only(database, Study).last_instance_at == MORNING


def test_the_same_content_again_is_a_duplicate_and_changes_nothing(intake, database, clock):
    intake.register(header(), stored(), PEER)
    complete(database, clock)
    clock.advance(20)
    assert intake.register(header(), stored(), PEER) is Registration.DUPLICATE
    study = only(database, Study)
    assert (study.state, study.last_instance_at) == ("complete", MORNING)
    assert count(database, Instance) == 1


def test_other_content_under_the_same_uid_is_a_conflict_and_changes_nothing(intake, database):
    intake.register(header(), stored("a"), PEER)
    assert intake.register(header(), stored("b"), PEER) is Registration.CONFLICT
    assert only(database, Instance).digest == "a" * 64


def test_the_same_uid_in_another_study_is_a_conflict_and_makes_no_study(intake, database):
    intake.register(header(study="2.25.1"), stored(), PEER)
    assert intake.register(header(study="2.25.2"), stored(), PEER) is Registration.CONFLICT
    assert only(database, Study).study_instance_uid == "2.25.1"


def test_the_file_on_record_is_named_for_comparison(intake):
    intake.register(header(), stored(), PEER)
    known = intake.known("2.25.101")
    assert (known.stored, known.deleted, known.study_instance_uid) == (stored(), False, "2.25.1")
    assert intake.known("2.25.102") is None


def test_a_late_image_reopens_a_complete_study(intake, database, clock):
    intake.register(header("2.25.101"), stored(), PEER)
    complete(database, clock)
    clock.advance(3600)
    intake.register(header("2.25.102"), stored("b"), PEER)
    study = only(database, Study)
    assert (study.state, study.completed_at) == ("receiving", None)
    assert study.last_instance_at == clock()
    assert kinds(database) == ["received_first", "reopened"]


def test_a_late_object_that_is_not_analysed_is_kept_and_reopens_nothing(intake, database, clock):
    intake.register(header("2.25.101"), stored(), PEER)
    complete(database, clock)
    clock.advance(3600)
    late = header("2.25.102", sop_class_uid=ENCAPSULATED_PDF, modality="DOC")
    assert intake.register(late, stored("b"), PEER) is Registration.NEW
    assert only(database, Study).state == "complete"
    with database.read() as session:
        reason = session.scalars(select(Instance.out_of_scope_reason).filter_by(sop_instance_uid="2.25.102")).one()
    assert "PDF" in reason


def test_an_image_that_is_not_analysed_still_shows_that_the_sender_is_at_work(intake, database, clock):
    intake.register(header("2.25.101"), stored(), PEER)
    clock.advance(20)
    intake.register(header("2.25.102", body_part_examined="CHEST"), stored("b"), PEER)
    assert only(database, Study).last_instance_at == clock()


@pytest.mark.parametrize("sop_class_uid", NO_IMAGES)
@pytest.mark.parametrize("state", ["receiving", "complete"])
def test_what_is_no_image_prolongs_no_quiet_time_and_reopens_nothing(intake, database, clock, sop_class_uid, state):
    intake.register(header("2.25.101"), stored(), PEER)
    if state == "complete":
        complete(database, clock)
    clock.advance(20)
    assert intake.register(header("2.25.102", sop_class_uid=sop_class_uid), stored("b"), PEER) is Registration.NEW
    study = only(database, Study)
    assert (study.state, study.last_instance_at) == (state, MORNING)
    assert "reopened" not in kinds(database)


def test_a_picture_that_we_sent_is_never_analysed_when_it_comes_back_whatever_the_site_analyses(database, clock):
    """Our answer to it would be a picture again, which comes back again, and so on."""
    everything = ScopeRule(modalities=frozenset({"OT", "CR"}), accept_unknown_body_part=True)
    intake = SqlIntake(database, everything, backoff=lambda attempts: 10.0 * attempts, clock=clock)
    intake.register(header("2.25.101"), stored(), PEER)
    complete(database, clock)
    with database.write() as session:
        job = a_job(session, session.scalars(select(Study)).one())
        sent = a_delivery(session, job, state="sent", sop_instance_uid="2.25.901")
    clock.advance(60)
    picture = header(sent.sop_instance_uid, sop_class_uid=SECONDARY_CAPTURE, modality="OT")
    assert intake.register(picture, stored("b"), PEER) is Registration.NEW
    study = only(database, Study)
    assert (study.state, study.last_instance_at) == ("complete", MORNING)
    with database.read() as session:
        reason = session.scalars(select(Instance.out_of_scope_reason).filter_by(sop_instance_uid="2.25.901")).one()
    assert reason == CAME_BACK


def test_what_the_first_instance_leaves_out_the_next_one_fills_in(intake, database):
    intake.register(header("2.25.101", patient_id=None, accession_number=None), stored(), PEER)
    intake.register(header("2.25.102", patient_id="P-9"), stored("b"), PEER)
    study = only(database, Study)
    assert (study.patient_id, study.accession_number) == ("P-9", "A-1")


def test_another_patient_in_the_same_study_is_on_the_trace_without_a_name(intake, database):
    intake.register(header("2.25.101", patient_id="P-1"), stored(), PEER)
    intake.register(header("2.25.102", patient_id="P-2"), stored("b"), PEER)
    assert only(database, Study).patient_id == "P-1"
    assert kinds(database) == ["received_first", "patient_differs"]
    with database.read() as session:
        details = session.scalars(select(Event.detail)).all()
        patients = session.scalars(select(Instance.patient_id).order_by(Instance.id)).all()
    assert "P-2" not in str(details)
    assert patients == ["P-1", "P-2"]


@pytest.mark.parametrize(
    "hostile",
    ["HA\0ND", "H" * 70_000, "\ud800HAND", "HAND\n\x1b[31m", "手" * 65, " "],
    ids=["nul", "long", "surrogate", "escape", "wide", "blank"],
)
def test_no_text_of_a_header_keeps_an_instance_out(intake, database, hostile):
    texts = dict.fromkeys(
        ("modality", "body_part_examined", "laterality", "view_position", "patient_id", "accession_number"), hostile
    )
    wild = header(**texts, study_date=hostile, number_of_frames=10**12)
    assert intake.register(wild, stored(), Peer("A\0" * 20, "f" * 100)) is Registration.NEW
    instance = only(database, Instance)
    assert instance.number_of_frames == 2**31 - 1
    assert all(len(value) <= 64 and value.isprintable() for value in (instance.patient_id, instance.body_part_examined))
    assert intake.register(wild, stored(), PEER) is Registration.DUPLICATE


def test_two_over_long_patient_ids_do_not_become_one(intake, database):
    intake.register(header("2.25.101", patient_id="P" * 100 + "1"), stored(), PEER)
    intake.register(header("2.25.102", patient_id="P" * 100 + "2"), stored("b"), PEER)
    assert "patient_differs" in kinds(database)


def together(*calls):
    """Make all calls at the same moment, each on a thread of its own, and return their answers."""
    gate = threading.Barrier(len(calls))

    def one(call):
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(one, call) for call in calls]]


def test_associations_that_bring_one_study_at_the_same_moment_share_its_row(intake, database):
    files = [(header(f"2.25.10{number}"), stored(str(number))) for number in range(8)]
    answers = together(*(lambda each=each: intake.register(*each, PEER) for each in files))
    assert answers == [Registration.NEW] * 8
    assert (count(database, Study), count(database, Instance)) == (1, 8)
    assert kinds(database) == ["received_first"]


def test_associations_that_bring_one_instance_at_the_same_moment_store_it_once(intake, database):
    answers = together(*[lambda: intake.register(header(), stored(), PEER)] * 8)
    assert sorted(answers) == ["duplicate"] * 7 + ["new"]
    assert (count(database, Study), count(database, Instance)) == (1, 1)


def test_one_uid_in_two_studies_at_the_same_moment_leaves_one_study(intake, database):
    studies = [header(study=f"2.25.{number}") for number in range(1, 9)]
    answers = together(*(lambda each=each: intake.register(each, stored(), PEER) for each in studies))
    assert sorted(answers) == ["conflict"] * 7 + ["new"]
    assert count(database, Study) == 1


def test_no_instance_slips_past_a_sweep_that_closes_its_study_at_the_same_moment(intake, database, clock):
    intake.register(header("2.25.101"), stored("a"), PEER)
    closing = threading.Thread(target=close, args=(database, clock))

    def meanwhile(_connection, _cursor, statement, *_others):
        if statement.startswith("INSERT INTO instances") and not closing.ident:
            closing.start()
            # Held up by the lock on the study; without that lock it would be through long before this.
            closing.join(0.3)

    event.listen(database.engine, "before_cursor_execute", meanwhile)
    intake.register(header("2.25.102"), stored("b"), PEER)
    event.remove(database.engine, "before_cursor_execute", meanwhile)
    closing.join()
    close(database, clock)
    with database.read() as session:
        last = session.scalars(select(Job.digest).order_by(Job.id.desc())).first()
    assert only(database, Study).state == "complete"
    assert last == study_digest([("2.25.101", "a" * 64), ("2.25.102", "b" * 64)])


def close(database, clock):
    close_quiet_studies(database, Models("m"), quiet_seconds=0, now=clock(), limit=10)


def test_a_refusal_is_recorded_whatever_its_sender_calls_itself(intake, database):
    refusal = Refusal("header", "no\0 UID", Peer("X" * 40, "10.0.0.5"), 0xA900, "1.2.../../etc/passwd" * 9, "q/1.dcm")
    intake.reject(refusal)
    row = only(database, Rejection)
    assert (row.code, row.reason, row.status, row.at) == ("header", "no  UID", 0xA900, MORNING)
    assert (row.calling_ae_title, row.quarantine_path) == ("X" * 16, "q/1.dcm")
    assert len(row.sop_instance_uid) == 64


def test_a_vanished_table_is_unavailable_and_never_success(intake, database):
    with database.write() as session:
        session.execute(text("ALTER TABLE instances RENAME TO elsewhere"))
    try:
        with pytest.raises(IntakeUnavailable):
            intake.register(header(), stored(), PEER)
    finally:
        with database.write() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO instances"))


def test_what_a_person_uploads_is_todays_work_also_where_it_was_fetched_before(intake, database, clock):
    intake.register(header(), stored(), Peer("", "archive.example", "dicomweb"))
    assert only(database, Study).source == "dicomweb"
    clock.advance(5)
    assert intake.register(header(), stored(), Peer("", "page", "upload")) is Registration.DUPLICATE
    assert only(database, Study).source == "upload", "its files are nobody's to delete any more"
    clock.advance(1000)
    (job_id,) = close_quiet_studies(database, Models("m"), quiet_seconds=30, now=clock(), limit=10)
    with database.read() as session:
        assert session.get_one(Job, job_id).lane == "live"


def test_a_part_that_only_a_code_names_stands_in_the_tables(intake, database):
    received = read_header(part10_bytes(build_dx(BodyPartExamined=None, StudyDate="20240305")))
    intake.register(received, stored(), PEER)
    assert only(database, Instance).body_part_examined == "HAND"
    assert [(row.body_part, row.study_date) for row in results(database)] == [("HAND", "20240305")]


def test_a_chest_that_only_a_code_names_is_recorded_as_out_of_scope(database, clock):
    intake = SqlIntake(database, ScopeRule(accept_unknown_body_part=True), backoff=float, clock=clock)
    chest = [coded("T-D3000", "SRT", "Chest")]
    intake.register(
        read_header(part10_bytes(build_dx(BodyPartExamined=None, AnatomicRegionSequence=chest))), stored(), PEER
    )
    instance = only(database, Instance)
    assert instance.body_part_examined == "CHEST"
    assert instance.out_of_scope_reason == "body part CHEST is not on the list of analysed ones"
