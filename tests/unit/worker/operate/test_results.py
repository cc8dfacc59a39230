"""The views, and the queries behind `bonewatch results` and `jobs`; tests/integration/postgresql runs the same."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, fields
from datetime import datetime, timedelta

import pytest
from sqlalchemy import inspect, select

from dicom_io.types import Outcome
from tests.databases import MORNING, a_delivery, a_job, a_study, an_image, an_instance
from worker.db.tables import Job, Report
from worker.operate import results as module
from worker.operate.results import ResultFilter, ResultRow, jobs, results, view_of
from worker.study.studies import add_job, current_digest


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One box of a study's result: a row of `v_findings`, the view that is for administrators alone."""

    study_instance_uid: str
    patient_id: str | None
    accession_number: str | None
    series_instance_uid: str
    sop_instance_uid: str
    frame_number: int
    number: int
    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    outcome: str
    probability: float | None
    model_version: str
    analysed_at: datetime
    job_id: int


def findings(database, study_instance_uid):
    """Return the boxes of a study's result, image by image, best first."""
    view = view_of("v_findings", FindingRow)
    query = select(view).where(view.c.study_instance_uid == study_instance_uid)
    with database.read() as session:
        rows = session.execute(query.order_by(view.c.sop_instance_uid, view.c.frame_number, view.c.number))
        return [FindingRow(*row) for row in rows]


def minutes(number):
    return MORNING + timedelta(minutes=number)


def only(database):
    (row,) = results(database)
    return row


def uids(rows):
    return [row.study_instance_uid for row in rows]


@pytest.mark.parametrize(("view", "row"), [("v_results", ResultRow), ("v_findings", FindingRow)])
def test_a_row_has_exactly_the_columns_of_its_view(database, view, row):
    columns = [column["name"] for column in inspect(database.engine).get_columns(view)]
    assert columns == [field.name for field in fields(row)]


def test_a_study_without_a_finished_job_waits(database):
    with database.write() as session:
        study = a_study(session, state="receiving", completed_at=None)
        an_instance(session, study)
        a_job(session, study, state="queued", outcome=None, probability=None, finished_at=None)
    row = only(database)
    assert (row.study_instance_uid, row.patient_id, row.accession_number) == ("2.25.1", "P-1", "A-1")
    assert (row.state, row.outcome, row.probability, row.job_id) == ("waiting", None, None, None)
    assert (row.received_at, row.completed_at, row.analysed_at) == (MORNING, None, None)
    assert (row.images, row.findings, row.report_state, row.update_pending) == (0, 0, "none", 0)


def test_a_finished_study_shows_its_answer(database):
    with database.write() as session:
        study = a_study(session)
        hand, other = an_instance(session, study, 1), an_instance(session, study, 2, body_part_examined="WRIST")
        job = a_job(session, study, outcome="present", probability=0.91, reason="possible fracture in 1 of 1 image")
        an_image(session, job, hand, boxes=2, outcome="present", probability=0.91)
        an_image(session, job, other, outcome="failed", probability=None)
    row = only(database)
    assert (row.state, row.outcome, row.probability) == ("done", "present", 0.91)
    assert (row.images, row.images_failed, row.findings) == (2, 1, 2)
    assert (row.body_part, row.modality) == ("HAND, WRIST", "CR")
    assert (row.model_version, row.reason) == ("2026-03-01-first+01234567", "possible fracture in 1 of 1 image")
    assert (row.received_at, row.completed_at, row.analysed_at) == (MORNING, minutes(0.5), minutes(2))
    assert (row.job_id, row.revision) == (job.id, 1)


def test_the_turnaround_runs_from_the_last_image_the_job_could_see_to_its_result(database):
    with database.write() as session:
        last = MORNING + timedelta(seconds=20, milliseconds=500)
        a_job(session, a_study(session), last_image_at=last, created_at=minutes(1), finished_at=minutes(2))
    assert only(database).turnaround_seconds == pytest.approx(99.5)


def test_reports_that_come_back_with_the_study_are_no_images_of_its_turnaround(database):
    with database.write() as session:
        study = a_study(session)
        an_instance(session, study, 1)
        an_instance(session, study, 2, modality="SR", out_of_scope_reason="a report", received_at=minutes(21))
        digest = current_digest(session, study.id)
        job_id = add_job(session, study.id, digest=digest, model_version="m", lane="live", now=minutes(21.5))
        job = session.get_one(Job, job_id)
        job.state, job.outcome, job.finished_at = "done", "absent", minutes(22)
    assert only(database).turnaround_seconds == pytest.approx(22 * 60)


@pytest.mark.parametrize("lane", ["live", "archive"])
def test_analysing_the_same_images_again_leaves_the_turnaround_of_their_first_answer(database, lane):
    with database.write() as session:
        study = a_study(session)
        a_job(session, study, last_image_at=MORNING, finished_at=minutes(2))
        a_job(session, study, revision=2, lane=lane, last_image_at=MORNING, finished_at=minutes(22))
    row = only(database)
    assert (row.revision, row.analysed_at, row.turnaround_seconds) == (2, minutes(22), pytest.approx(120))


def test_an_analysis_that_was_given_up_is_no_answer_and_the_retry_that_succeeds_is(database):
    with database.write() as session:
        study = a_study(session)
        a_job(session, study, last_image_at=MORNING, finished_at=minutes(2), state="failed", outcome="failed")
    assert only(database).turnaround_seconds is None
    with database.write() as session:
        a_job(session, study, revision=2, last_image_at=MORNING, finished_at=minutes(22))
    assert only(database).turnaround_seconds == pytest.approx(22 * 60)


def test_a_late_image_has_a_turnaround_of_its_own(database):
    with database.write() as session:
        study = a_study(session)
        a_job(session, study, last_image_at=MORNING, finished_at=minutes(2))
        a_job(session, study, digest="e" * 64, last_image_at=minutes(60), finished_at=minutes(65))
    assert only(database).turnaround_seconds == pytest.approx(5 * 60)


def test_a_study_without_an_image_to_analyse_has_no_turnaround(database):
    with database.write() as session:
        a_job(session, a_study(session), last_image_at=None, outcome="out_of_scope", probability=None)
    assert only(database).turnaround_seconds is None


def test_a_nightly_reanalysis_has_no_turnaround(database):
    with database.write() as session:
        a_job(session, a_study(session), lane="archive", last_image_at=MORNING)
    assert only(database).turnaround_seconds is None


def test_a_study_shows_its_newest_finished_job_and_that_another_is_on_its_way(database):
    with database.write() as session:
        study = a_study(session)
        first = a_job(session, study, outcome="failed", probability=None, state="failed")
        image = an_instance(session, study)
        an_image(session, first, image, boxes=3)
        second = a_job(session, study, revision=2, outcome="present", probability=0.8)
        an_image(session, second, image, boxes=1, outcome="present")
        a_job(session, study, revision=3, state="running", outcome=None, finished_at=None)
    row = only(database)
    assert (row.job_id, row.revision, row.outcome, row.update_pending) == (second.id, 2, "present", 1)
    assert row.findings == 1
    assert [finding.job_id for finding in findings(database, "2.25.1")] == [second.id]


def test_a_late_image_shows_as_an_update_on_its_way(database):
    with database.write() as session:
        a_job(session, a_study(session, state="receiving"))
    assert only(database).update_pending == 1


def test_what_is_not_analysed_says_nothing_of_body_part_and_modality_unless_it_is_alone(database):
    with database.write() as session:
        mixed, alone = a_study(session, 1), a_study(session, 2)
        an_instance(session, mixed, 1)
        for study in (mixed, alone):
            document = {"modality": "DOC", "body_part_examined": None, "out_of_scope_reason": "a document"}
            an_instance(session, study, 9, **document)
    assert [(row.modality, row.body_part) for row in results(database)] == [("DOC", None), ("CR", "HAND")]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("pending", "pending"), "built"),
        (("sent", "pending"), "built"),
        (("sent", "committed"), "sent"),
        (("committed", "committed"), "committed"),
        (("committed", "failed"), "failed"),
        ((), "built"),
    ],
)
def test_the_report_is_as_far_as_its_slowest_delivery(database, states, expected):
    with database.write() as session:
        job = a_job(session, a_study(session))
        session.add(Report(job_id=job.id, sop_instance_uid="2.25.900", state="built", built_at=MORNING))
        for number, state in enumerate(states):
            values = {"committed_at": minutes(number + 3)} if state == "committed" else {}
            reason = {"reason": "no such AE"} if state == "failed" else {}
            a_delivery(session, job, f"pacs{number}", state=state, **values, **reason)
    row = only(database)
    assert (row.report_state, row.report_sop_instance_uid) == (expected, "2.25.900")
    assert row.committed_at == (minutes(4) if expected == "committed" else None)
    assert row.report_reason == ("no such AE" if expected == "failed" else None)


def test_a_report_that_could_not_be_built_says_why(database):
    with database.write() as session:
        job = a_job(session, a_study(session))
        session.add(Report(job_id=job.id, state="failed", reason="no study date", built_at=MORNING))
    row = only(database)
    assert (row.report_state, row.report_reason, row.report_sop_instance_uid) == ("failed", "no study date", None)


def test_a_finding_carries_where_it_is_and_whose_it_is(database):
    with database.write() as session:
        study = a_study(session)
        job = a_job(session, study, outcome="present", probability=0.9)
        an_image(session, job, an_instance(session, study, 7), boxes=2, outcome="present", probability=0.9)
    first, second = findings(database, "2.25.1")
    assert (first.sop_instance_uid, first.frame_number, first.number, second.number) == ("2.25.1.7", 1, 1, 2)
    assert (first.x1, first.y1, first.x2, first.y2, first.score) == (10.5, 20.0, 30.25, 44.0, 0.9)
    assert (first.outcome, first.probability, first.analysed_at) == ("present", 0.9, minutes(2))
    assert findings(database, "2.25.2") == []


@pytest.fixture
def three_studies(database):
    with database.write() as session:
        a_job(session, a_study(session, 1), finished_at=minutes(10), outcome="present")
        a_job(session, a_study(session, 2), finished_at=minutes(20), model_version="2026-09-01-second+89abcdef")
        a_study(session, 3, first_instance_at=minutes(30))
    return database


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [3, 2, 1]),
        ({"since": minutes(20)}, [3, 2]),
        ({"until": minutes(20)}, [1]),
        ({"since": minutes(15), "until": minutes(30)}, [2]),
        ({"outcome": Outcome.PRESENT}, [1]),
        ({"patient_id": "P-2"}, [2]),
        ({"accession_number": "A-3"}, [3]),
        ({"model": "2026-09-01"}, [2]),
        ({"model": "2026_09"}, []),
        ({"model": "2026-09-01-second+89abcdef", "outcome": Outcome.PRESENT}, []),
        ({"study_instance_uid": "2.25.3"}, [3]),
        ({"patient_id": "' OR 1=1 --"}, []),
    ],
)
def test_a_filter_keeps_what_it_names(three_studies, wanted, numbers):
    assert uids(results(three_studies, ResultFilter(**wanted))) == [f"2.25.{number}" for number in numbers]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_pages_join_without_a_gap_or_an_overlap(three_studies, monkeypatch, size):
    monkeypatch.setattr(module, "PAGE_SIZE", size)
    assert uids(results(three_studies)) == ["2.25.3", "2.25.2", "2.25.1"]
    assert uids(results(three_studies, limit=2)) == ["2.25.3", "2.25.2"]


def test_a_slow_reader_keeps_no_transaction_open(three_studies, monkeypatch):
    monkeypatch.setattr(module, "PAGE_SIZE", 1)
    reading = results(three_studies)
    next(reading)
    assert three_studies.engine.pool.checkedout() == 0
    assert len(list(reading)) == 2


def test_rows_cannot_be_changed(three_studies):
    row = next(results(three_studies))
    with pytest.raises(FrozenInstanceError):
        row.outcome = "absent"


def test_jobs_are_listed_newest_first_by_state_and_by_study(three_studies):
    with three_studies.write() as session:
        study = a_study(session, 4)
        failed = a_job(session, study, state="failed", outcome="failed", reason="undecodable", attempts=3)
        a_job(session, study, state="queued", revision=2, outcome=None, finished_at=None)
    assert [job.study_instance_uid for job in jobs(three_studies)] == ["2.25.4", "2.25.4", "2.25.2", "2.25.1"]
    assert len(list(jobs(three_studies, limit=1))) == 1
    assert [job.revision for job in jobs(three_studies, study_instance_uid="2.25.4")] == [2, 1]
    (row,) = jobs(three_studies, state="failed")
    assert (row.job_id, row.reason, row.attempts, row.finished_at) == (failed.id, "undecodable", 3, minutes(2))
