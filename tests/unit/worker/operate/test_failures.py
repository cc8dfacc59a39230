"""Failures by reason; tests/integration/postgresql runs the same on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from tests.databases import MORNING, a_delivery, a_job, a_study, an_instance
from tests.fakes_worker import VERSION
from worker.db.tables import Companion, Delivery, Job, Report
from worker.delivery.states import REPORT_UNUSABLE
from worker.operate.failures import FailureGroup, failure_groups, retry_group

NOW = MORNING + timedelta(hours=1)
BROKEN = {"state": "failed", "outcome": "failed", "probability": None}


def add(database, number, **of_job):
    """Add a study with an image and one finished job; return the job."""
    with database.write() as session:
        study = a_study(session, number)
        an_instance(session, study, number)
        return a_job(session, study, **of_job)


def add_delivery(database, number, reason):
    job = add(database, number)
    with database.write() as session:
        a_delivery(session, session.get_one(Job, job.id), state="failed", reason=reason)


def retry(database, kind, reason):
    return retry_group(database, kind, reason, model_version=VERSION, now=NOW)


def planned(database):
    with database.read() as session:
        return session.scalars(select(Job.study_id).where(Job.state == "queued").order_by(Job.study_id)).all()


def test_failures_are_counted_by_reason_the_most_frequent_first(database):
    for number, reason in enumerate(["cut off", "no pixels", "cut off"], 1):
        add(database, number, reason=reason, **BROKEN)
    add(database, 4)
    groups = failure_groups(database)
    assert [(group.kind, group.reason, group.count) for group in groups] == [
        ("analysis", "cut off", 2), ("analysis", "no pixels", 1)
    ]  # fmt: skip
    assert groups[0].newest_at == MORNING + timedelta(minutes=2)


def test_what_a_later_job_made_good_is_no_failure(database):
    job = add(database, 1, reason="cut off", **BROKEN)
    with database.write() as session:
        a_job(session, session.get_one(Job, job.id).study, revision=2)
    assert failure_groups(database) == ()


def test_one_reason_is_done_again_and_no_other(database):
    for number, reason in enumerate(["cut off", "no pixels", "cut off"], 1):
        add(database, number, reason=reason, **BROKEN)
    assert retry(database, "analysis", "cut off") == 2
    assert planned(database) == [1, 3]
    assert retry(database, "analysis", "cut off") == 0, "they wait already"


def test_a_report_that_could_not_be_built_has_its_study_analysed_again(database):
    for number, reason in ((1, "the study has no date"), (2, "other")):
        job = add(database, number)
        with database.write() as session:
            session.add(Report(job_id=job.id, state="failed", reason=reason, built_at=MORNING))
    assert {(group.kind, group.count) for group in failure_groups(database)} == {("report", 1)}
    assert retry(database, "report", "other") == 1
    assert planned(database) == [2]


def test_a_delivery_is_sent_again_or_its_study_analysed_where_the_report_is_lost(database):
    add_delivery(database, 1, "refused")
    add_delivery(database, 2, f"{REPORT_UNUSABLE}: gone")
    assert retry(database, "delivery", "refused") == 1
    assert retry(database, "delivery", f"{REPORT_UNUSABLE}: gone") == 1
    assert planned(database) == [2]
    with database.read() as session:
        assert session.scalars(select(Delivery.state).order_by(Delivery.id)).all() == ["pending", "failed"]


def test_what_is_counted_is_what_is_sent_again_and_no_report_that_a_newer_answer_replaced(database):
    for number in (1, 2):
        add_delivery(database, number, "refused")
    with database.write() as session:
        a_job(session, session.get_one(Job, 1).study, revision=2)
    assert [group.count for group in failure_groups(database)] == [1]
    assert retry(database, "delivery", "refused") == 1
    with database.read() as session:
        assert session.scalars(select(Delivery.state).order_by(Delivery.id)).all() == ["failed", "pending"]


def test_a_failure_without_a_reason_is_a_group_too(database):
    add(database, 1, reason=None, **BROKEN)
    assert failure_groups(database) == (FailureGroup("analysis", "", 1, MORNING + timedelta(minutes=2)),)
    assert retry(database, "analysis", "") == 1


def test_pictures_that_could_not_be_made_are_counted_by_kind_and_reason(database):
    pictures = [("capture", "no memory"), ("capture", "no memory"), ("presentation", "no memory")]
    job = add(database, 1)
    with database.write() as session:
        report = Report(job_id=job.id, state="built", built_at=MORNING)
        report.companions = [
            Companion(kind=kind, number=number, state="failed", reason=reason)
            for number, (kind, reason) in enumerate(pictures, 1)
        ] + [Companion(kind="capture", number=4, state="built")]
        session.add(report)
    at = MORNING + timedelta(minutes=2)
    assert failure_groups(database) == (
        FailureGroup("capture", "no memory", 2, at),
        FailureGroup("presentation", "no memory", 1, at),
    )


def test_a_picture_that_a_newer_answer_replaced_is_no_failure(database):
    job = add(database, 1)
    with database.write() as session:
        report = Report(job_id=job.id, state="built", built_at=MORNING)
        report.companions = [Companion(kind="capture", number=1, state="failed", reason="no memory")]
        session.add(report)
        a_job(session, session.get_one(Job, job.id).study, revision=2)
    assert failure_groups(database) == ()
