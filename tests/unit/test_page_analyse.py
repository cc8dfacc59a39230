"""Analyse an X-ray without a browser: frames of an image, and images of one study; the model is told its answers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from models.manifest import SHIPPED, read_manifest
from models.types import Decision, ImageAnalysis, ImageError, ScoredBox
from tests.builders import build_dx, part10_bytes, ramp
from tests.databases import sqlite_database
from worker.settings import load_settings
from worker.ui import page_analyse
from worker.ui.model import SharedModel
from worker.ui.visit import Visit

ABSENT = ImageAnalysis(0.1, (), Decision.ABSENT, 0.1)
PRESENT = ImageAnalysis(0.9, (ScoredBox(1, 2, 11, 12, 0.8), ScoredBox(4, 4, 9, 9, 0.6)), Decision.PRESENT, 0.1)


class Told:
    """A model that says what it is told, image after image."""

    version = "2026-01-01-told+00000000"

    def __init__(self, *answers):
        self.answers = iter(answers)

    def analyze(self, pixels, minimum_score=None):
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def upload(tmp_path, monkeypatch):
    """Upload images, each a name and a data set, and return the page once it has shown them."""
    database = sqlite_database(tmp_path)
    visit = Visit(load_settings(home=tmp_path), database, "local", "operator")
    shown = []
    monkeypatch.setattr(page_analyse, "show_image", lambda pixels, boxes, words, *_: shown.append((pixels, words)))

    def page(visit):
        from worker.ui import page_analyse  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_analyse.show(visit)

    def uploading(answers, **images):
        model = SharedModel(Told(*answers), read_manifest(SHIPPED))
        monkeypatch.setattr(page_analyse, "current_model", lambda _: model)
        test = AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30).run()
        test.file_uploader[0].set_value(
            [(f"{name}.dcm", part10_bytes(ds), "application/dicom") for name, ds in images.items()]
        )
        test.run()
        assert not test.exception
        return test, shown

    yield uploading
    database.close()


def test_the_gravest_frame_comes_first_and_every_other_one_can_be_chosen(upload):
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1], ramp(40, 60)[:, ::-1]])
    page, shown = upload([ABSENT, PRESENT, ABSENT], hand=build_dx(pixels=frames))
    (picker,) = page.selectbox
    assert picker.value == 1
    assert picker.options == [
        "Frame 1: ○ No fracture found, probability 0.10",
        "Frame 2: ▲ Fracture suspected, probability 0.90 (the gravest)",
        "Frame 3: ○ No fracture found, probability 0.10",
    ]
    gravest, words = shown[-1]
    assert words == "Radiograph, frame 2, present, 2 boxes"
    assert gravest[0, 0] > gravest[-1, -1]

    picker.set_value(2).run()
    third, words = shown[-1]
    assert words == "Radiograph, frame 3, absent, 0 boxes"
    assert third[0, 0] > third[0, -1]
    assert not any("Boxes, best first" in text.value for text in page.text)
    assert [each.value for each in page.error] == ["▲ Fracture suspected"], "the file's answer stays the gravest"


def test_a_frame_that_could_not_be_analysed_says_so(upload):
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1]])
    page, shown = upload([ABSENT, ImageError("too flat")], hand=build_dx(pixels=frames))
    page.selectbox[0].set_value(0).run()
    assert shown[-1][1] == "Radiograph, frame 1, absent, 0 boxes"
    page.selectbox[0].set_value(1).run()
    assert shown[-1][1] == "Radiograph, frame 2, failed, 0 boxes"


def test_frames_that_were_not_looked_at_are_named(upload):
    frames = np.stack([ramp(40, 60), np.full((40, 60), 7, np.uint16), ramp(40, 60), ramp(40, 60)])
    page, _ = upload([PRESENT], hand=build_dx(pixels=frames))
    assert [each.value for each in page.warning] == [
        "Frames 3 to 4 were not looked at: the one before could not be decoded."
    ]
    page.selectbox[0].set_value(1).run()
    assert [each.value for each in page.info] == ["This frame cannot be shown: it could not be decoded."]


def test_images_of_one_study_stand_together_under_the_gravest_answer(upload):
    pa, ll = (build_dx(pixels=ramp(40, 60), study="one", instance=view) for view in ("PA", "LL"))
    page, _ = upload([ABSENT, ABSENT, PRESENT], pa=pa, other=build_dx(pixels=ramp(40, 60), study="two"), ll=ll)
    assert [each.value for each in page.subheader] == ["2 images of one study: ▲ Fracture suspected"]
    left, right = page.columns
    assert left.text[0].value == "pa.dcm"
    assert right.text[0].value == "ll.dcm"


def test_no_page_loads_torch_before_an_image_is_analysed():
    words = "import sys; from importlib import import_module as load; from worker.ui.serve import PAGES\n"
    words += "assert PAGES; [load(page) for page in PAGES]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True)


def test_an_image_of_one_frame_has_no_picker(upload):
    page, shown = upload([PRESENT], hand=build_dx(pixels=ramp(40, 60)))
    assert not page.selectbox
    assert shown[-1][1] == "Radiograph, present, 2 boxes"
