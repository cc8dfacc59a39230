"""A study's page where several answers were given: one looks at the images and the report of each."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from dicom_io.types import Outcome
from tests.builders import build_cr, ramp
from tests.databases import MORNING, a_delivery, a_job, a_study, an_image, an_instance
from tests.reporting import build_report, content_of, reported, stored
from worker.db.tables import Study
from worker.settings.settings import load_settings
from worker.ui import page_study
from worker.ui.visit import Visit
from worker.ui.words import moment

NEW, OLD = (f"{moment(MORNING + timedelta(minutes=at))}, {words}" for at, words in (
    (4, "new: ○ No fracture found (job 2)"),
    (2, "old: ▲ Possible fracture (job 1)"),
))  # fmt: skip
EARLIER = "Images and report are those of an earlier answer, not of the one above."


@pytest.fixture
def answer(database, tmp_path):
    """Add an answer of a model to the study 2.25.1, with its report; its boxes are one where it found a fracture."""
    path = stored(build_cr(pixels=ramp(40, 60)), tmp_path)
    folder = tmp_path / "store" / "reports"
    folder.mkdir(parents=True)

    def adding(model, outcome, minutes):
        with database.write() as session:
            study = session.get(Study, 1) or a_study(session)
            image = study.instances[0] if study.instances else an_instance(session, study)
            at = MORNING + timedelta(minutes=minutes)
            job = a_job(session, study, model_version=model, outcome=outcome, finished_at=at)
            boxes = int(outcome is Outcome.PRESENT)
            an_image(session, job, image, boxes, outcome=outcome)
            content = content_of(reported(path, outcome, boxes))
            (folder / f"{model}.dcm").write_bytes(build_report(content).part10)
            a_delivery(session, job, state="committed").report.path = f"reports/{model}.dcm"

    return adding


@pytest.fixture
def look(tmp_path, database, monkeypatch):
    """Look at the study; return the page and what it shows of images: model, outcome and boxes."""
    shown = []
    monkeypatch.setattr(
        page_study,
        "show_image",
        lambda _, found, __, image, ___: shown.append((found.result.model_version, image.outcome, len(image.findings))),
    )

    def page(visit):
        from worker.ui import page_study  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_study.show(visit)

    def looking():
        visit = Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "ada", "viewer")
        test = AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30)
        test.query_params["uid"] = "2.25.1"
        test.run()
        assert not test.exception
        return test, shown

    return looking


def report_of(page):
    (tree,) = page.get("html")
    return tree.proto.body


def test_one_answer_leaves_nothing_to_choose(look, answer):
    answer("old", Outcome.PRESENT, 2)
    page, shown = look()
    assert (len(page.selectbox), shown) == (0, [("old", "present", 1)])


def test_an_earlier_answer_is_chosen_and_its_images_boxes_and_report_are_shown(look, answer):
    answer("old", Outcome.PRESENT, 2)
    answer("new", Outcome.ABSENT, 4)
    page, shown = look()
    assert page.selectbox[0].options == [NEW, OLD]
    assert (shown.pop(), "Fracture: Absent" in report_of(page)) == (("new", "absent", 0), True)
    assert EARLIER not in [each.value for each in page.info]

    page.selectbox[0].select(OLD).run()
    assert not page.exception
    assert (shown.pop(), "Fracture: Present" in report_of(page)) == (("old", "present", 1), True)
    assert EARLIER in [each.value for each in page.info]
    assert "No fracture found" in page.success[0].value, "what stands above is still the newest answer"


def test_a_newer_answer_is_shown_whatever_was_chosen_before(look, answer):
    answer("old", Outcome.PRESENT, 2)
    answer("new", Outcome.ABSENT, 4)
    page, shown = look()
    page.selectbox[0].select(OLD).run()
    answer("newest", Outcome.ABSENT, 6)
    page.run()
    assert not page.exception
    assert shown.pop()[0] == "newest"
