"""A study's page without a browser: its two buttons, its images, and what can be downloaded."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from tests.databases import a_delivery, a_job, a_study, kinds
from worker.settings import load_settings
from worker.tables import Delivery, Job
from worker.ui.visit import Visit

UID = "2.25.1"


@pytest.fixture
def look(tmp_path, database):
    """Look at the study 2.25.1."""

    def page(visit):
        from worker.ui import page_study  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_study.show(visit)

    def looking(role="operator"):
        visit = Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "ada", role)
        test = AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30)
        test.query_params["uid"] = UID
        test.run()
        assert not test.exception
        return test

    return looking


def labels(page):
    return [each.label for each in page.button]


def press(page, label):
    next(each for each in page.button if each.label == label).click().run()
    assert not page.exception


def states(database):
    with database.read() as session:
        jobs = session.scalars(select(Job.state).order_by(Job.id)).all()
        return jobs, session.scalars(select(Delivery.state).order_by(Delivery.id)).all()


def test_a_report_that_did_not_arrive_is_sent_again_or_its_study_analysed_as_one_presses(look, database):
    with database.write() as session:
        a_delivery(session, a_job(session, a_study(session)), state="failed", reason="refused")
    page = look()
    assert labels(page) == ["Send again", "Analyse again"]
    press(page, "Send again")
    assert states(database) == (["done"], ["pending"])
    press(page, "Analyse again")
    assert states(database) == (["done", "queued"], ["pending"])
    assert kinds(database).count("page_pressed") == 2


def test_analyse_again_is_a_new_job_and_sends_nothing(look, database):
    with database.write() as session:
        a_delivery(session, a_job(session, a_study(session)), state="failed", reason="refused")
    press(look(), "Analyse again")
    assert states(database) == (["done", "queued"], ["failed"])


def test_a_report_that_a_newer_answer_replaced_is_not_offered_to_be_sent(look, database):
    with database.write() as session:
        study = a_study(session)
        a_delivery(session, a_job(session, study), state="failed", reason="refused")
        a_delivery(session, a_job(session, study, revision=2), state="committed")
    assert labels(look()) == ["Analyse again"]


def test_a_viewer_sees_the_buttons_and_may_not_press_them(look, database):
    with database.write() as session:
        a_delivery(session, a_job(session, a_study(session)), state="failed", reason="refused")
    assert [each.disabled for each in look("viewer").button] == [True, True]
