"""The tick to keep, where something goes wrong: said once, in words, and what is stored stays stored."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from streamlit.testing.v1 import AppTest

from dicom_io.errors import StoreError
from tests.builders import build_dx, part10_bytes, ramp
from worker.db.tables import Event, Instance
from worker.errors import DatabaseUnavailable
from worker.files.candidates import Kind
from worker.reception import kept_uploads
from worker.settings.settings import load_settings
from worker.ui import keeping
from worker.ui.keeping import AWAY, LABEL, STORED
from worker.ui.uploads import KEPT, Analysed
from worker.ui.visit import Visit


class Upload:
    """What Streamlit holds of a file."""

    def __init__(self, name, ds):
        self.name = self.file_id = name
        self.content = part10_bytes(ds)

    def getvalue(self):
        return self.content


@pytest.fixture
def offered(tmp_path, database):
    """Offer to keep images of one study, each a name and a data set."""

    def page(visit, images):
        from worker.ui import keeping  # noqa: PLC0415 - AppTest runs the body as a script of its own

        keeping.offer_to_keep(visit, images)

    def offering(**images):
        visit = Visit(load_settings(home=tmp_path, minimum_free_bytes=0), database, "ada", "operator")
        found = [Analysed(Upload(name, ds), Kind.DICOM, None, None, None) for name, ds in images.items()]
        return AppTest.from_function(page, kwargs={"visit": visit, "images": found}, default_timeout=30).run()

    return offering


def view(name, pixels=None):
    return build_dx(pixels=ramp(40, 60) if pixels is None else pixels, study="one", instance=name)


def tick(page):
    page.checkbox[0].check().run()
    assert not page.exception


def said(page):
    return [each.value.replace("\\", "") for each in page.error]


def kept(database):
    with database.read() as session:
        return [each.detail["by"] for each in session.scalars(select(Event).filter_by(kind="upload_kept"))]


def failing(error, calls):
    def fail(*_):
        calls.append(1)
        raise error

    return fail


def test_the_tick_says_that_the_pacs_may_hear_of_it(offered):
    (box,) = offered(pa=view("PA")).checkbox
    assert box.label == LABEL
    assert "a report of it may go to the PACS" in LABEL


def test_of_a_study_refused_in_part_the_rest_is_stored_for_good_and_the_refused_alone_is_tried_again(offered, database):
    tick(offered(first=view("PA", ramp(40, 60)[::-1])))
    page = offered(pa=view("PA"), ll=view("LL"), oblique=view("OBL"))
    for _ in range(2):
        tick(page)
        assert [each.value for each in page.info] == ["2 of 3 are stored for good. The tick keeps the others."]
        (error,) = said(page)
        assert error.startswith("pa was not stored: another instance with this SOP Instance UID")
        assert page.checkbox[0].value is False, "taking it away would look like taking back"
        assert not page.success
    assert len(kept(database)) == 3, "the first, and two of the three once each"


def test_a_store_that_cannot_be_built_is_said_once_and_not_tried_again_unasked(offered, monkeypatch):
    calls = []
    page = offered(pa=view("PA"))
    monkeypatch.setattr(keeping, "build_kept_uploads", failing(StoreError("needs the extra s3"), calls))
    tick(page)
    assert said(page) == ["pa was not stored: needs the extra s3"]
    page.run()
    assert len(calls) == 1
    assert page.checkbox[0].value is False

    monkeypatch.undo()
    tick(page)
    assert [each.value for each in page.success] == [STORED]


@pytest.mark.parametrize("error", [DatabaseUnavailable("gone"), IntegrityError("INSERT", {}, Exception("no"))])
def test_a_press_that_cannot_be_recorded_keeps_nothing_and_is_said_once(offered, database, monkeypatch, error):
    calls = []
    page = offered(pa=view("PA"))
    monkeypatch.setattr(Visit, "pressed", failing(error, calls))
    tick(page)
    assert said(page) == [f"pa {AWAY}"]
    page.run()
    assert len(calls) == 1
    with database.read() as session:
        assert session.scalars(select(Instance)).all() == []


def test_one_reception_serves_all_ticks_of_a_site(offered, monkeypatch):
    built, store_of = [], kept_uploads.store_of
    monkeypatch.setattr(kept_uploads, "store_of", lambda settings: built.append(1) or store_of(settings))
    tick(offered(pa=view("PA"), ll=view("LL")))
    tick(offered(oblique=view("OBL")))
    assert len(built) == 1


def test_who_leaves_the_page_leaves_nothing_of_it_behind():
    def leaving():
        from worker.ui.uploads import forget_uploads  # noqa: PLC0415 - AppTest runs the body as a script of its own

        forget_uploads()

    page = AppTest.from_function(leaving)
    page.session_state[KEPT] = "what was said of a file"
    page.run()
    assert KEPT not in page.session_state
