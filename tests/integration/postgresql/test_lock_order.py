"""Whoever locks a study and one of its jobs locks the study first: two that met otherwise would wait for each other."""

import threading
import time

from sqlalchemy import select, text, update

from tests.databases import MORNING, a_job, a_study
from worker.db.tables import Job, Study
from worker.study import studies

PATIENCE_SECONDS = 60.0


def until_somebody_waits(database):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with database.read() as session:
            if session.scalar(text("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")


def test_a_claim_and_a_new_model_for_the_same_job_do_not_wait_for_each_other(database):
    with database.write() as session:
        a_job(session, a_study(session), state="queued", outcome=None, probability=None, finished_at=None)
    planned = []

    with database.write() as claiming:
        claiming.execute(select(Study.id).where(Study.id == 1).with_for_update())
        planning = threading.Thread(
            target=lambda: planned.append(studies.replan(database, model_version="v2", now=MORNING, limit=10))
        )
        planning.start()
        until_somebody_waits(database)
        claiming.execute(update(Job).where(Job.id == 1, Job.state == "queued").values(state="running"))
    planning.join(PATIENCE_SECONDS)

    assert planned == [0]
    with database.read() as session:
        assert session.get_one(Job, 1).model_version != "v2"
