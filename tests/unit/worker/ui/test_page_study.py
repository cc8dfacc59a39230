"""A study's page without a browser: its two buttons, its images, and what can be downloaded."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from dicom_io.pixels.frames import read_displayed
from dicom_io.report.drawing import mark_image, marks_of
from dicom_io.types import Box, Outcome, ReportedImage
from models.types import ImageError, ModelError
from tests.builders import build_cr, ramp, write_part10
from tests.databases import a_delivery, a_job, a_study, an_image, an_instance, kinds
from worker.db.tables import Delivery, Event, ImageResult, Job
from worker.settings.settings import load_settings
from worker.ui import study_image
from worker.ui.viewer import drawn
from worker.ui.visit import Visit

UID = "2.25.1"


@pytest.fixture
def look(tmp_path, database):
    """Look at the study 2.25.1."""

    def page(visit):
        from worker.ui import page_study  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_study.show(visit)

    def looking(role="operator", **address):
        visit = Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "ada", role)
        test = AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30)
        for name, value in {"uid": UID, **address}.items():
            test.query_params[name] = value
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


@pytest.fixture
def seen(monkeypatch):
    """Collect the pictures that a page shows, and what it offers to download."""
    study_image._explained.clear()
    pictures, files = [], []
    monkeypatch.setattr(study_image, "show_picture", lambda picture, _: pictures.append(picture))
    monkeypatch.setattr(study_image.st, "download_button", lambda _, data, **__: files.append(data))
    return pictures, files


@pytest.fixture
def add_images(database, tmp_path):
    """Add a study with a file and an answer for each, (outcome, probability, boxes); return the files."""

    def adding(*said, **of_image):
        paths = []
        with database.write() as session:
            study = a_study(session)
            job = a_job(session, study, outcome="present", probability=0.9)
            for number, (outcome, probability, boxes) in enumerate(said, 1):
                ds = build_cr(pixels=ramp(40, 60 + number), instance=str(number), **of_image)
                paths.append(write_part10(ds, tmp_path / "store" / f"instances/{number}.dcm"))
                digest = hashlib.sha256(paths[-1].read_bytes()).hexdigest()
                image = an_instance(session, study, number, digest=digest)
                an_image(session, job, image, boxes, outcome=outcome, probability=probability)
        return paths

    return adding


def words(pictures):
    return [picture.words for picture in pictures]


def test_the_gravest_images_come_first_and_the_others_by_a_button(look, database, add_images, seen):
    said = [("absent", 0.1, 0)] * 12 + [("inconclusive", 0.4, 0), ("present", 0.8, 0), ("present", 0.9, 1)]
    add_images(*said)
    pictures, _ = seen
    page = look()
    assert words(pictures)[:4] == [
        "Radiograph, present, 1 boxes",
        "Radiograph, present, 0 boxes",
        "Radiograph, inconclusive, 0 boxes",
        "Radiograph, absent, 0 boxes",
    ]
    assert len(pictures) == 12
    assert "Images 1 to 12 of 15, the gravest first; 3 are not shown here." in [each.value for each in page.caption]

    pictures.clear()
    press(page, "More images ▶")
    assert page.query_params["image"] == "13"
    assert words(pictures)[-3:] == ["Radiograph, absent, 0 boxes"] * 3
    with database.read() as session:
        (event,) = session.scalars(select(Event).filter_by(kind="page_pressed"))
    assert (event.study_id, event.detail["what"]) == (1, "images from 13 on")


def test_every_image_says_its_probability_and_its_boxes_scores_as_text(look, add_images, seen):
    add_images(("present", 0.9, 2), ("absent", 0.1, 0))
    page = look()
    said = [each.value for each in page.text if "frame 1" in each.value or each.value.startswith("Boxes")]
    assert [each.partition(": ")[2] for each in said] == [
        "▲ Possible fracture, probability 0.90",
        "1: 0.90, 2: 0.80",
        "○ No fracture found, probability 0.10",
    ]
    page.segmented_control[0].set_value("Original").run()
    assert said[1] in [each.value for each in page.text], "what is not drawn is still said"


def test_an_image_says_which_attributes_of_its_file_were_left_aside(look, database, add_images, seen):
    add_images(("present", 0.9, 1), ("absent", 0.1, 0))
    with database.write() as session:
        session.get_one(ImageResult, 2).warning = "Rescale Slope is 0: it was left aside"
    said = [each.value for each in look().text if each.value.startswith("Of the file")]
    assert said == ["Of the file: Rescale Slope is 0: it was left aside"]


@pytest.mark.parametrize(("asked", "shown"), [("13", 3), ("15", 3), ("16", 12), ("0", 12), ("-1", 12), ("x", 12)])
def test_the_address_says_which_images_are_shown(look, add_images, seen, asked, shown):
    add_images(*[("absent", 0.1, 0)] * 15)
    look(image=asked)
    assert len(seen[0]) == shown


def test_a_marked_image_says_what_was_said_of_it_and_not_of_the_study(look, add_images, seen):
    _, path = add_images(("present", 0.9, 1), ("absent", 0.1, 0))
    look()
    _, files = seen
    frame = read_displayed(path, 1)
    marks = marks_of(ReportedImage(path, 1, Outcome.ABSENT, 0.1), "2026-03-01-first+01234567")
    assert marks.heading == "No fracture found by the AI, probability 0.10, no region marked."
    assert files[1]() == mark_image(np.rint(frame.pixels * 255).astype(np.float32) / 255, marks)


def test_pixels_that_are_not_square_are_shown_and_drawn_as_high_as_they_are(look, add_images, seen):
    (path,) = add_images(("present", 0.9, 1), PixelSpacing=[0.3, 0.15])
    look()
    (picture,), (file,) = seen
    shown = drawn(picture)
    assert (shown["width"], shown["height"]) == (61, 80)
    box = {name: shown["boxes"][0][name] for name in ("x1", "y1", "x2", "y2")}
    assert box == {"x1": 10.5, "y1": 40.0, "x2": 30.25, "y2": 88.0}
    said = ReportedImage(path, 1, Outcome.PRESENT, 0.9, (Box(10.5, 20, 30.25, 44, 0.9),))
    marks = marks_of(said, "2026-03-01-first+01234567", 2.0)
    assert file() == mark_image(picture.pixels.astype(np.float32) / 255, marks)


class Explains:
    """A model that finds the whole image warm."""

    def __init__(self, version):
        self.version = version

    def explain(self, pixels):
        return np.ones_like(pixels)


class Refuses(Explains):
    """A model that takes no image."""

    def explain(self, pixels):
        raise ImageError("the image has one grey value only")


def ours(_):
    return Explains("2026-03-01-first+01234567")


def another(_):
    return Explains("2026-04-01-second+89abcdef")


def refusing(_):
    return Refuses("2026-03-01-first+01234567")


def unusable(_):
    raise ModelError("its files are gone")


@pytest.fixture
def choose(look, add_images, seen, monkeypatch):
    """Look at an image of one box with this model in use and choose what lies over it; return page and picture."""

    def choosing(model, choice):
        monkeypatch.setattr(study_image, "current_model", model)
        add_images(("present", 0.9, 1))
        page, (pictures, _) = look(), seen
        assert (len(pictures[-1].boxes), pictures[-1].heat) == (1, None)
        page.segmented_control[0].set_value(choice).run()
        assert not page.exception
        return page, pictures[-1]

    return choosing


@pytest.mark.parametrize(
    ("choice", "boxes", "heat"),
    [("Original", 0, None), ("Boxes", 1, None), ("Heat map", 0, (40, 61)), ("Both", 1, (40, 61))],
)
def test_one_choice_shows_the_original_boxes_heat_or_both(choose, choice, boxes, heat):
    _, picture = choose(ours, choice)
    assert (len(picture.boxes), None if picture.heat is None else picture.heat.shape) == (boxes, heat)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (another, "Another model than the one in use"),
        (unusable, "There is no usable model"),
        (refusing, "There is no heat map of this image: the image has one grey value only."),
    ],
)
def test_heat_that_cannot_be_told_is_said_to_be_missing(choose, model, said):
    page, picture = choose(model, "Both")
    assert [each.value for each in page.info if said in each.value]
    assert (len(picture.boxes), picture.heat) == (1, None)


def test_an_image_that_was_not_analysed_has_no_heat(look, add_images, seen, monkeypatch):
    monkeypatch.setattr(study_image, "current_model", ours)
    add_images(("out_of_scope", None, 0))
    page = look()
    page.segmented_control[0].set_value("Heat map").run()
    assert "This image was not analysed: the classifier did not look at it." in [each.value for each in page.info]
    assert seen[0][-1].heat is None


def test_heat_is_asked_for_once_however_often_the_page_is_drawn(look, add_images, seen, monkeypatch):
    asked = []
    model = ours(None)
    model.explain = lambda pixels: asked.append(1) or np.ones_like(pixels)
    monkeypatch.setattr(study_image, "current_model", lambda _: model)
    add_images(("present", 0.9, 1))
    page = look()
    for choice in ("Heat map", "Both", "Heat map"):
        page.segmented_control[0].set_value(choice).run()
    assert (len(asked), seen[0][-1].heat.max()) == (1, 1.0)


def test_choices_of_several_images_have_names_of_their_own_and_say_what_is_drawn(look, add_images, seen):
    add_images(("present", 0.9, 1), ("absent", 0.1, 0))
    page = look()
    assert [each.label for each in page.segmented_control] == ["Show (image 1)", "Show (image 2)"]
    page.segmented_control[0].set_value("Original").run()
    assert words(seen[0])[-2:] == ["Radiograph, present, 1 boxes, not drawn", "Radiograph, absent, 0 boxes"]


def test_a_download_never_draws_the_page_anew(look, add_images):
    add_images(("present", 0.9, 1), ("absent", 0.1, 0))
    buttons = look().get("download_button")
    assert [each.proto.ignore_rerun for each in buttons] == [True, True]
