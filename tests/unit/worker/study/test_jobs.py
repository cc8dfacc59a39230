from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from tests.databases import MORNING, a_job, a_study, an_instance
from worker.db.tables import Event, Instance, Job, Report, Study
from worker.errors import LeaseLost, UnknownStudy
from worker.operate import retries
from worker.study import jobs, studies
from worker.study.completion import JobResult, finish
from worker.study.outcomes import failed
from worker.study.studies import Models, close_quiet_studies, images_of_digest, study_digest

LATER = MORNING + timedelta(hours=1)


def queued(database, number=1, **values) -> int:
    with database.write() as session:
        study = session.scalar(select(Study).where(Study.id == number)) or a_study(session, number)
        waiting = {"state": "queued", "outcome": None, "probability": None, "finished_at": None}
        return a_job(session, study, **(waiting | values)).id


def claim(database, job_id, now=MORNING, worker="w"):
    return jobs.claim(database, job_id, worker=worker, lease_seconds=60, now=now)


def row(database, job_id) -> Job:
    with database.read() as session:
        job = session.get_one(Job, job_id)
        session.expunge(job)
        return job


def kinds(database, job_id) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Event.kind).where(Event.job_id == job_id).order_by(Event.id)))


def test_a_claimed_job_is_nobody_elses(database):
    job_id = queued(database)

    first, second = claim(database, job_id), claim(database, job_id)

    assert first is not None
    assert second is None
    assert row(database, job_id).lease_until == MORNING + timedelta(seconds=60)
    assert kinds(database, job_id) == ["claimed"]


def test_of_many_claims_at_once_exactly_one_wins(database):
    job_id = queued(database)
    barrier, won = threading.Barrier(8), []

    def try_it(name):
        barrier.wait()
        won.append(claim(database, job_id, worker=name))

    threads = [threading.Thread(target=try_it, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([each for each in won if each is not None]) == 1
    assert row(database, job_id).attempts == 1


@pytest.mark.parametrize("values", [{"state": "done"}, {"state": "failed"}])
def test_a_finished_job_cannot_be_claimed(database, values):
    assert claim(database, queued(database, **values)) is None


def test_an_unknown_job_cannot_be_claimed(database):
    assert claim(database, 4711) is None


def test_a_job_that_is_held_back_is_claimed_when_its_time_has_come(database):
    job_id = queued(database, next_attempt_at=MORNING + timedelta(seconds=5))

    assert claim(database, job_id, MORNING + timedelta(seconds=4)) is None
    assert claim(database, job_id, MORNING + timedelta(seconds=5)) is not None


def test_a_younger_job_of_the_same_study_and_lane_waits_its_turn(database):
    older, younger = queued(database), queued(database, revision=2)

    assert claim(database, younger) is None
    held = claim(database, older)
    assert claim(database, younger) is None
    finish(database, held, JobResult(failed("x")), destinations=(), now=MORNING)
    assert claim(database, younger) is not None


def test_a_live_job_does_not_wait_behind_the_archive_job_of_its_study(database):
    queued(database, lane="archive")

    assert claim(database, queued(database, revision=2)) is not None


def test_jobs_of_different_studies_do_not_wait_for_each_other(database):
    queued(database, 1)

    assert claim(database, queued(database, 2)) is not None


def test_a_lease_is_renewed_only_by_its_holder(database):
    job_id = queued(database)
    held = claim(database, job_id)

    assert held.lease.renew(database, LATER)
    assert row(database, job_id).lease_until == LATER + timedelta(seconds=60)
    jobs.release_expired(database, maximum_attempts=3, now=LATER + timedelta(seconds=61), limit=10)
    assert not held.lease.renew(database, LATER + timedelta(seconds=62))


def test_a_job_whose_lease_ran_out_waits_again_and_keeps_its_first_start(database):
    job_id = queued(database)
    claim(database, job_id)

    assert jobs.release_expired(database, maximum_attempts=3, now=MORNING + timedelta(seconds=60), limit=10) == ()
    assert jobs.release_expired(database, maximum_attempts=3, now=LATER, limit=10) == (job_id,)
    assert row(database, job_id).state == "queued"
    again = claim(database, job_id, LATER)
    assert (again.started_at, again.attempts) == (MORNING, 2)


def test_a_poison_study_is_given_up_after_its_attempts_and_others_go_on(database):
    poison, other = queued(database, 1), queued(database, 2)
    for attempt in range(3):
        now = MORNING + timedelta(hours=attempt)
        assert claim(database, poison, now) is not None
        jobs.release_expired(database, maximum_attempts=3, now=now + timedelta(minutes=5), limit=10)

    given_up = row(database, poison)
    assert (given_up.state, given_up.outcome, given_up.attempts) == ("failed", "failed", 3)
    assert given_up.reason.startswith("given up after 3 attempts: the worker was lost")
    assert given_up.finished_at is not None
    assert claim(database, other) is not None
    assert kinds(database, poison)[-1] == "failed"


def test_a_failed_attempt_waits_longer_each_time_and_then_fails_for_good(database):
    job_id, now, waits = queued(database), MORNING, []
    for _ in range(3):
        held = claim(database, job_id, now)
        assert jobs.fail_attempt(database, held, reason="unexpected error (E)", now=now, maximum_attempts=3)
        due = row(database, job_id).next_attempt_at
        waits.append((due - now).total_seconds() if due else None)
        now = due or now

    assert waits == [5.0, 10.0, None]
    assert row(database, job_id).state == "failed"


def test_a_job_that_is_put_back_has_lost_no_attempt_and_says_why(database):
    job_id = queued(database)
    held = claim(database, job_id)

    assert jobs.put_back(database, held, reason="no model", now=MORNING, wait_seconds=30)

    job = row(database, job_id)
    assert (job.state, job.attempts, job.reason, job.started_at) == ("queued", 0, "no model", None)
    assert job.next_attempt_at == MORNING + timedelta(seconds=30)


@pytest.mark.parametrize("what", ["finish", "put_back", "fail_attempt"])
def test_who_lost_the_lease_changes_nothing(database, what):
    job_id = queued(database)
    late = claim(database, job_id)
    jobs.release_expired(database, maximum_attempts=3, now=LATER, limit=10)
    claim(database, job_id, LATER, worker="other")

    if what == "finish":
        with pytest.raises(LeaseLost):
            finish(database, late, JobResult(failed("x")), destinations=(), now=LATER)
    elif what == "put_back":
        assert not jobs.put_back(database, late, reason="x", now=LATER, wait_seconds=1)
    else:
        assert not jobs.fail_attempt(database, late, reason="x", now=LATER, maximum_attempts=1)
    assert (row(database, job_id).state, row(database, job_id).claimed_by) == ("running", "other")


def test_a_worker_whose_lease_ran_out_may_finish_while_nobody_took_the_job(database):
    job_id = queued(database)
    held = claim(database, job_id)

    finish(database, held, JobResult(failed("x")), destinations=(), now=LATER)

    assert row(database, job_id).state == "done"


# --- studies -----------------------------------------------------------------------------------------------------


def receiving(database, number=1, seconds=0.0, images=1, **values) -> int:
    with database.write() as session:
        last = MORNING + timedelta(seconds=seconds)
        study = a_study(session, number, state="receiving", completed_at=None, last_instance_at=last, **values)
        for image in range(1, images + 1):
            an_instance(session, study, image)
        return study.id


def close(database, now, version="v1", limit=100):
    return close_quiet_studies(database, Models(version), quiet_seconds=30, now=now, limit=limit)


def test_a_study_closes_when_it_has_been_quiet_for_long_enough(database):
    receiving(database)

    assert close(database, MORNING + timedelta(seconds=29)) == ()
    (job_id,) = close(database, MORNING + timedelta(seconds=30))

    job = row(database, job_id)
    assert (job.state, job.lane, job.revision, job.model_version) == ("queued", "live", 1, "v1")
    assert close(database, LATER) == ()


def test_a_study_that_did_not_come_by_push_goes_into_the_archive_lane(database):
    receiving(database, source="archive")

    assert row(database, close(database, LATER)[0]).lane == "archive"


def reopen(database, study_id, image=None):
    with database.write() as session:
        study = session.get_one(Study, study_id)
        study.state = "receiving"
        if image:
            an_instance(session, study, image)


def test_a_study_that_was_reopened_without_a_new_image_makes_no_new_job(database):
    study_id = receiving(database)
    close(database, LATER)
    reopen(database, study_id)

    assert close(database, LATER) == ()


def test_a_late_image_makes_a_new_job_and_the_older_one_keeps_its_images(database):
    study_id = receiving(database)
    (first,) = close(database, LATER)
    reopen(database, study_id, image=2)
    (second,) = close(database, LATER)

    with database.read() as session:
        images = list(session.scalars(select(Instance).order_by(Instance.id)))
        of = {job: images_of_digest(images, session.get_one(Job, job).digest) for job in (first, second)}
    assert (len(of[first]), len(of[second])) == (1, 2)


def test_a_job_whose_images_are_gone_finds_none(database):
    with database.write() as session:
        images = [an_instance(session, a_study(session))]
    assert images_of_digest(images, "0" * 64) is None


def test_two_sweeps_at_once_close_a_study_once(database):
    receiving(database)
    barrier, made = threading.Barrier(2), []

    def close_it():
        barrier.wait()
        made.extend(close(database, LATER))

    threads = [threading.Thread(target=close_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1


def test_one_page_of_studies_is_closed_at_a_time_those_quiet_longest_first(database):
    for number in (1, 2, 3):
        receiving(database, number, seconds=-number)

    assert len(close(database, LATER, limit=2)) == 2
    with database.read() as session:
        assert session.scalars(select(Study.id).where(Study.state == "receiving")).all() == [1]


def test_the_digest_depends_on_the_contents_and_not_on_their_order():
    one, two = ("2.25.1", "a" * 64), ("2.25.2", "b" * 64)

    assert study_digest([one, two]) == study_digest([two, one])
    assert study_digest([one, two]) != study_digest([one, ("2.25.2", "c" * 64)])
    assert study_digest([]) != study_digest([one])


def test_jobs_that_wait_for_a_model_no_longer_installed_go_to_the_one_that_is(database):
    old, current, running = queued(database, 1), queued(database, 2, model_version="v2"), queued(database, 3)
    claim(database, running)

    assert studies.replan(database, model_version="v2", now=MORNING, limit=10) == 1

    assert [row(database, each).model_version for each in (old, current)] == ["v2", "v2"]
    assert row(database, running).model_version != "v2"


def test_a_replanned_job_takes_the_next_revision_of_the_work_it_repeats(database):
    queued(database, model_version="v2", state="done")
    old = queued(database)

    studies.replan(database, model_version="v2", now=MORNING, limit=10)

    assert row(database, old).revision == 2


# --- retries -----------------------------------------------------------------------------------------------------


def test_a_retry_is_a_new_row_and_the_old_one_stays(database):
    with database.write() as session:
        study = a_study(session)
        an_instance(session, study)
        digest = studies.current_digest(session, study.id)
        old = a_job(session, study, digest=digest, model_version="v1", state="failed", outcome="failed").id

    new = retries.retry_study(database, "2.25.1", model_version="v1", now=LATER)

    assert (row(database, new).revision, row(database, new).state, row(database, new).lane) == (2, "queued", "live")
    assert row(database, old).state == "failed"
    assert kinds(database, new) == ["retry"]
    assert retries.retry_study(database, "2.25.1", model_version="v1", now=LATER) is None


def test_a_study_that_nobody_sent_cannot_be_retried(database):
    with pytest.raises(UnknownStudy, match=r"2\.25\.99"):
        retries.retry_study(database, "2.25.99", model_version="v1")


def test_retrying_all_takes_the_studies_whose_latest_job_failed(database):
    queued(database, 1, state="failed", outcome="failed")
    queued(database, 2, state="done", outcome="failed", finished_at=MORNING)
    queued(database, 3, state="failed", outcome="failed")
    queued(database, 3, state="done", outcome="absent", revision=2)
    unreported = queued(database, 4, state="done", outcome="present", finished_at=MORNING)
    with database.write() as session:
        session.add(Report(job_id=unreported, state="failed", reason="two frames of reference", built_at=MORNING))

    made = retries.retry_failed(database, model_version="v1", now=LATER)

    with database.read() as session:
        found = set(session.scalars(select(Job.study_id).where(Job.id.in_(made))))
        assert found == {1, 2, 4}
        assert session.scalar(select(func.count()).select_from(Job)) == 8
