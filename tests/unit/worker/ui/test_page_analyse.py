"""Analyse an X-ray without a browser: frames, images of one study, the tick to keep; the model is told its answers."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from dicom_io.pixels.frame_decoding import decode_frame
from dicom_io.types import Outcome
from models.manifest import SHIPPED, read_manifest
from models.types import Decision, ImageAnalysis, ImageError, ScoredBox
from tests.builders import build_dx, part10_bytes, ramp
from worker.db.tables import Event, Instance, Rejection, Study
from worker.settings.settings import load_settings
from worker.ui import page_analyse, viewer
from worker.ui.keeping import LABEL, PICTURE, STORED
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

    def explain(self, pixels):
        return np.ones_like(pixels)


@pytest.fixture
def upload(tmp_path, monkeypatch, database):
    """Upload images, each a name and a data set or a file's content; return the page once it has shown them."""
    settings = load_settings(home=tmp_path, minimum_free_bytes=0)
    shown = []
    monkeypatch.setattr(page_analyse, "show_picture", lambda picture, _: shown.append(picture))

    def page(visit):
        from worker.ui import page_analyse  # noqa: PLC0415 - AppTest runs the body as a script of its own

        page_analyse.show(visit)

    def uploading(answers, role="operator", **images):
        visit = Visit(settings, database, "ada", role)
        model = SharedModel(Told(*answers), read_manifest(SHIPPED))
        monkeypatch.setattr(page_analyse, "current_model", lambda _: model)
        test = AppTest.from_function(page, kwargs={"visit": visit}, default_timeout=30).run()
        test.file_uploader[0].set_value(
            [
                (f"{name}.dcm", ds if isinstance(ds, bytes) else part10_bytes(ds), "application/dicom")
                for name, ds in images.items()
            ]
        )
        test.run()
        assert not test.exception
        return test, shown

    return uploading


def test_what_was_left_aside_of_an_upload_is_said_below_its_answer(upload):
    odd = build_dx(pixels=ramp(40, 60), WindowCenter="2048", WindowWidth="0")
    page, _ = upload([ABSENT], hand=odd)
    assert [each.value for each in page.caption if "Window Width 1 is smaller than" in each.value]


def test_the_gravest_frame_comes_first_and_every_other_one_can_be_chosen(upload):
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1], ramp(40, 60)[:, ::-1]])
    page, shown = upload([ABSENT, PRESENT, ABSENT], hand=build_dx(pixels=frames))
    picker, beside = page.selectbox
    assert (beside.label, beside.value) == ("Frame beside it", None)
    assert picker.value == 1
    assert picker.options == [
        "Frame 1: ○ No fracture found, probability 0.10",
        "Frame 2: ▲ Possible fracture, probability 0.90 (the gravest)",
        "Frame 3: ○ No fracture found, probability 0.10",
    ]
    gravest = shown[-1]
    assert gravest.words == "Radiograph, frame 2, present, 2 boxes"
    assert gravest.pixels[0, 0] > gravest.pixels[-1, -1]

    picker.set_value(2).run()
    third = shown[-1]
    assert third.words == "Radiograph, frame 3, absent, 0 boxes"
    assert third.pixels[0, 0] > third.pixels[0, -1]
    assert not any("Boxes, best first" in text.value for text in page.text)
    assert [each.value for each in page.error] == ["▲ Possible fracture"], "the file's answer stays the gravest"


def test_two_frames_stand_side_by_side_and_neither_is_decoded_twice(upload, monkeypatch):
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1], ramp(40, 60)[:, ::-1]])
    page, shown = upload([ABSENT, PRESENT, ABSENT], hand=build_dx(pixels=frames))
    assert not page.columns

    page.selectbox[1].set_value(1).run()

    left, right = page.columns
    assert (left.text[0].value, right.text[0].value) == ("Frame 2", "Frame 3")
    assert [each.words for each in shown[-2:]] == [
        "Radiograph, frame 2, present, 2 boxes",
        "Radiograph, frame 3, absent, 0 boxes",
    ]
    assert shown[-1].pixels[0, 0] > shown[-1].pixels[0, -1]
    monkeypatch.setattr("worker.ui.uploads.read_displayed", None)
    page.segmented_control[0].set_value("Original").run()
    assert not page.exception
    assert [len(each.boxes) for each in shown[-2:]] == [0, 0]


def test_a_frame_that_is_chosen_is_decoded_without_those_before_it(upload, monkeypatch):
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1], ramp(40, 60)[:, ::-1]])
    page, shown = upload([PRESENT, ABSENT, ABSENT], hand=build_dx(pixels=frames))
    decoded = []

    def decoding(decoder, ds, layout, index):
        decoded.append(index)
        return decode_frame(decoder, ds, layout, index)

    monkeypatch.setattr("dicom_io.pixels.frames.decode_frame", decoding)
    page.selectbox[0].set_value(2).run()
    assert shown[-1].words == "Radiograph, frame 3, absent, 0 boxes"
    assert decoded == [2]


def test_a_frame_that_could_not_be_analysed_says_so(upload):
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1]])
    page, shown = upload([ABSENT, ImageError("too flat")], hand=build_dx(pixels=frames))
    page.selectbox[0].set_value(0).run()
    assert shown[-1].words == "Radiograph, frame 1, absent, 0 boxes"
    page.selectbox[0].set_value(1).run()
    assert shown[-1].words == "Radiograph, frame 2, failed, 0 boxes"


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
    assert [each.value for each in page.subheader] == ["2 images of one study: ▲ Possible fracture"]
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
    assert shown[-1].words == "Radiograph, present, 2 boxes"


@pytest.mark.parametrize(
    ("choice", "boxes", "heat"),
    [("Original", 0, False), ("Boxes", 2, False), ("Heat map", 0, True), ("Both", 2, True)],
)
def test_one_choice_shows_the_original_boxes_heat_or_both(upload, choice, boxes, heat):
    page, shown = upload([PRESENT], hand=build_dx(pixels=ramp(40, 60)))
    assert (len(shown[-1].boxes), shown[-1].heat) == (2, None)
    page.segmented_control[0].set_value(choice).run()
    assert (len(shown[-1].boxes), shown[-1].heat is not None) == (boxes, heat)


def test_where_the_classifier_looked_is_asked_once_for_each_frame(upload, monkeypatch):
    asked = []

    def explain(_, pixels):
        asked.append(pixels[0, 0])
        return np.full_like(pixels, pixels[0, 0])

    monkeypatch.setattr(Told, "explain", explain)
    page, shown = upload([ABSENT, PRESENT], hand=build_dx(pixels=np.stack([ramp(40, 60), ramp(40, 60)[::-1]])))
    for choice in ("Heat map", "Both", "Boxes", "Heat map"):
        page.segmented_control[0].set_value(choice).run()
    assert len(asked) == 1
    assert shown[-1].heat == pytest.approx(asked[0], abs=0.002)

    page.selectbox[0].set_value(0).run()
    page.segmented_control[0].set_value("Heat map").run()
    assert not page.exception
    assert len(asked) == 2
    assert shown[-1].heat == pytest.approx(asked[1], abs=0.002)


def test_a_frame_that_the_model_refused_has_no_heat_and_says_so(upload):
    page, shown = upload([ImageError("the image has one grey value only")], hand=build_dx(pixels=ramp(40, 60)))
    page.segmented_control[0].set_value("Both").run()
    assert not page.exception
    assert "This image was not analysed: the classifier did not look at it." in [each.value for each in page.info]
    assert shown[-1].heat is None


def test_another_window_brings_back_what_the_files_own_has_cut_off(upload):
    page, shown = upload([PRESENT], hand=build_dx(pixels=ramp(40, 60), WindowCenter=1000, WindowWidth=1500))
    files = shown[-1].pixels
    assert files[20, 0] == files[-1, -1] == 255
    page.toggle[0].set_value(True).run()
    assert (shown[-1].pixels == files).all()

    level, width = page.slider
    assert (level.value, width.value) == (1000, 1500)
    level.set_value(2048.0)
    width.set_value(4096.0).run()
    assert 125 < int(shown[-1].pixels[20, 0]) < 130
    assert shown[-1].pixels[-1, -1] == 255


def test_a_window_of_ones_own_is_that_of_the_frame_shown(upload):
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1]])
    page, shown = upload([PRESENT, ABSENT], hand=build_dx(pixels=frames))
    page.toggle[0].set_value(True).run()
    page.selectbox[0].set_value(1).run()
    page.toggle[0].set_value(True).run()
    assert shown[-1].pixels[0, 0] > shown[-1].pixels[-1, -1]


def test_a_refused_file_is_explained_before_anybody_uploads_one(upload):
    page, _ = upload([])
    limits = "Up to 20 files of up to 100 MB each at a time. A file marked red was not analysed"
    assert [each.value for each in page.caption if each.value.startswith(limits)]


UNCLEAR = "No clear answer (between the operating points, or classifier and detector disagree) in 1 of 1 image."
GREEN = "The pointer is in the green part, yet a box was found: classifier and detector disagree."


@pytest.mark.parametrize(("of_low", "green"), [(1.0, []), (0.5, [GREEN])])
def test_an_unclear_answer_says_why_and_that_a_green_pointer_is_no_error(upload, of_low, green):
    probability = of_low * read_manifest(SHIPPED).decision.build().low
    unclear = ImageAnalysis(probability, (ScoredBox(1, 2, 11, 12, 0.9),), Decision.INCONCLUSIVE, 0.1)
    page, _ = upload([unclear], hand=build_dx(pixels=ramp(40, 60)))
    assert [each.value for each in page.warning] == ["◆ Unclear: look closely"]
    assert f"{UNCLEAR} {page_analyse.ADVICE[Outcome.INCONCLUSIVE]}" in [each.value for each in page.text]
    assert [each.value for each in page.caption if "green" in each.value] == green


def test_a_file_that_could_not_be_analysed_is_a_warning(upload):
    page, _ = upload([], letter=b"This is not an image.")
    assert [each.value for each in page.warning] == ["✕ Could not be analysed"]


@pytest.mark.parametrize(("columns", "said"), [(2048, []), (2049, ["99"]), (3000, ["68"])])
def test_an_image_that_is_shown_with_fewer_pixels_than_it_has_says_so(upload, monkeypatch, columns, said):
    monkeypatch.setattr(page_analyse, "show_picture", viewer.show_picture)
    page, _ = upload([ABSENT], hand=build_dx(pixels=ramp(40, columns)))
    captions = [each.value for each in page.caption if each.value.startswith("Shown at")]
    assert captions == [f"Shown at {percent} % of its resolution." for percent in said]


def test_a_picture_has_no_window(upload):
    file = io.BytesIO()
    Image.fromarray(ramp(40, 60).astype(np.uint8)).save(file, "PNG")
    page, _ = upload([PRESENT], hand=file.getvalue())
    assert not page.toggle


def rows(database, table):
    with database.read() as session:
        return session.scalars(select(table).order_by(table.id)).all()


def events(database):
    return [(each.kind, each.detail.get("by"), each.detail.get("reason")) for each in rows(database, Event)]


def stored_files(folder):
    return sorted(path.suffix for path in folder.joinpath("store").rglob("*") if path.is_file())


def test_nothing_is_stored_unless_somebody_ticks_so(upload, database, tmp_path):
    page, _ = upload([PRESENT], hand=build_dx(pixels=ramp(40, 60)))
    (tick,) = page.checkbox
    assert (tick.label, tick.value) == (LABEL, False)
    page.segmented_control[0].set_value("Heat map").run()
    assert rows(database, Instance) == []
    assert stored_files(tmp_path) == []


def test_what_is_kept_is_a_study_of_today_with_a_trace_of_who_kept_it(upload, database, tmp_path):
    page, _ = upload([PRESENT], hand=build_dx(pixels=ramp(40, 60)))
    page.checkbox[0].check().run()
    assert [each.value for each in page.success] == [STORED]
    assert not page.checkbox
    (study,), (instance,) = rows(database, Study), rows(database, Instance)
    assert (study.source, study.state, instance.source) == ("upload", "receiving", "upload")
    assert (tmp_path / "store" / instance.path).is_file()
    assert ("page_pressed", "ada", None) in events(database)
    assert events(database)[-1] == ("upload_kept", "ada", None)

    page.segmented_control[0].set_value("Original").run()
    assert [each.value for each in page.success] == [STORED]
    assert len([kind for kind, *_ in events(database) if kind == "upload_kept"]) == 1, "kept once, whatever runs again"


def test_images_of_one_study_are_kept_by_one_tick(upload, database):
    pa, ll = (build_dx(pixels=ramp(40, 60), study="one", instance=view) for view in ("PA", "LL"))
    page, _ = upload([ABSENT, PRESENT], pa=pa, ll=ll)
    (tick,) = page.checkbox
    tick.check().run()
    assert len(rows(database, Instance)) == 2
    assert len(rows(database, Study)) == 1


def test_a_viewer_is_not_offered_to_keep(upload, database):
    page, _ = upload([PRESENT], role="viewer", hand=build_dx(pixels=ramp(40, 60)))
    assert not page.checkbox
    assert any("let the PACS send it" in each.value for each in page.caption)


def test_a_picture_cannot_be_kept_and_the_page_says_why(upload):
    file = io.BytesIO()
    Image.fromarray(ramp(40, 60).astype(np.uint8)).save(file, "PNG")
    page, _ = upload([PRESENT], hand=file.getvalue())
    assert not page.checkbox
    assert PICTURE in [each.value for each in page.caption]


def test_other_content_under_a_known_uid_is_refused_in_words_and_the_first_stays(upload, database):
    page, _ = upload([PRESENT], hand=build_dx(pixels=ramp(40, 60)))
    page.checkbox[0].check().run()
    page, _ = upload([PRESENT], other=build_dx(pixels=ramp(40, 60)[::-1]))
    page.checkbox[0].check().run()
    (error,) = [each.value for each in page.error if "not stored" in each.value]
    assert "different content is stored already" in error.replace("\\", "")
    assert not page.success
    assert len(rows(database, Instance)) == 1
    assert [each.code for each in rows(database, Rejection)] == ["duplicate_uid"]
    assert events(database)[-1][0] == "upload_refused"

    assert page.checkbox[0].value is False, "one tick is one try"


def test_a_file_that_does_not_say_what_it_is_is_refused_in_words(upload, database):
    whole = part10_bytes(build_dx(pixels=ramp(40, 60)))
    page, _ = upload([], broken=whole[:200])
    page.checkbox[0].check().run()
    assert [each.value for each in page.error if each.value.startswith("broken\\.dcm was not stored\\: ")]
    assert rows(database, Instance) == []
    assert events(database)[-1][0] == "upload_refused"
