"""Whoever locks a study and one of its jobs locks the study first: two that met otherwise would wait for each other."""

import threading

from sqlalchemy import select, update

from tests.databases import MORNING, a_job, a_study
from tests.integration.postgresql.waiting import PATIENCE_SECONDS, until_so_many_wait
from worker.db.tables import Job, Study
from worker.study import studies


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
        until_so_many_wait(database)
        claiming.execute(update(Job).where(Job.id == 1, Job.state == "queued").values(state="running"))
    planning.join(PATIENCE_SECONDS)

    assert planned == [0]
    with database.read() as session:
        assert session.get_one(Job, 1).model_version != "v2"
