"""Worklist, study, archive night and operations in a real browser, over the bonewatch of `page_site`."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image
from playwright.sync_api import expect
from pydicom import dcmread

from tests.databases import a_job, a_study
from tests.e2e.conftest import HOSTILE_ID
from tests.peers import wait_until
from worker.db.database import open_database
from worker.db.tables import ReanalysisRun
from worker.settings.connection_url import parse_database_url

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

PAGED = 30


@pytest.fixture(scope="module")
def database(page_site):
    """The running site's own database, to put rows beside those that it makes."""
    opened = open_database(parse_database_url(f"sqlite:///{page_site.bonewatch.home}/bonewatch.sqlite3"))
    yield opened
    opened.close()


def studies(page):
    return page.get_by_role("table", name=re.compile("^Studies"))


def shown(page, column):
    """Return the texts of a column, the first being 1."""
    return studies(page).locator(f"tbody td:nth-child({column})").all_inner_texts()


def test_filters_stand_in_the_address_and_a_patient_id_of_markup_is_shown_as_text(visit, page_site):
    visitor = visit()
    page = visitor.see("", "Worklist")
    expect(studies(page).get_by_text(HOSTILE_ID)).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    assert page.get_by_text("on its way").count() == 0, "the line shown until there is a page goes with it"
    visitor.shoot("worklist")

    page.get_by_role("radio", name="Could not be analysed").click()
    expect(studies(page).get_by_text(HOSTILE_ID)).to_have_count(0)
    assert shown(page, 3) == ["BROKEN"]
    expect(page).to_have_url(re.compile("outcome=failed"))

    query = page.url.partition("?")[2]
    page.go_back()
    expect(studies(page).get_by_text(HOSTILE_ID)).to_be_visible()
    expect(page.get_by_role("radio", name="All")).to_be_checked()

    other = visit()
    page = other.see(f"worklist?{query}", "Worklist")  # the address that the page's name suggests works, too
    expect(studies(page).get_by_role("link")).to_have_count(1)
    assert shown(page, 3) == ["BROKEN"]


def test_a_long_worklist_is_paged_through_without_a_gap(visit, database):
    with database.write() as session:
        for number in range(PAGED):
            moment = datetime.now(UTC) - timedelta(days=number)
            study = a_study(session, 1000 + number, accession_number="PAGED", first_instance_at=moment)
            a_job(session, study, model_version="paged-model")
    visitor = visit()
    page = visitor.see("?model=paged", "Worklist")
    expect(studies(page).get_by_role("link")).to_have_count(25)
    first = shown(page, 3)
    page.get_by_role("button", name="Older").click()
    expect(studies(page).get_by_role("link")).to_have_count(PAGED - 25)
    assert sorted(first + shown(page, 3)) == sorted(f"P-{1000 + number}" for number in range(PAGED))
    expect(page).to_have_url(re.compile("model=paged.*below=|below=.*model=paged"))
    page.get_by_role("button", name="Newest").click()
    expect(studies(page).get_by_role("link")).to_have_count(25)


def test_a_row_leads_to_its_study_by_keyboard_and_its_report_and_image_can_be_kept(visit, page_site):
    visitor = visit()
    page = visitor.see("?text=TWO-VIEWS", "Worklist")
    link = studies(page).get_by_role("link")
    expect(link).to_have_count(1)
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Study", exact=True, level=1)).to_be_visible()
    expect(page).to_have_url(re.compile(f"study.*uid={page_site.two_views}"))
    visitor.rest()

    with page.expect_download() as marked:
        page.get_by_role("button", name="Marked image (PNG)").first.click()
    assert Image.open(io.BytesIO(marked.value.path().read_bytes())).format == "PNG"
    page.get_by_role("tab", name="Time line").click()
    expect(page.get_by_role("cell", name=re.compile("^analysed: ")).first).to_be_visible()
    page.get_by_role("tab", name="Report").click()
    expect(page.get_by_role("listitem").get_by_text("Imaging Measurement Report").first).to_be_visible()
    with page.expect_download() as report:
        page.get_by_role("button", name="Structured report (DICOM)").click()
    assert dcmread(report.value.path()).StudyInstanceUID == page_site.two_views
    visitor.shoot("study")
    page.get_by_role("tab", name="Images").click()
    page.get_by_role("radio", name="Both").first.click()
    expect(page.get_by_text("Heat: where the classifier looked").first).to_be_visible()
    visitor.rest()
    visitor.shoot("study-heat")
    pressed = page_site.bonewatch.one(
        "SELECT count(*) FROM events WHERE kind = 'page_pressed' AND study_id IS NOT NULL"
    )
    assert pressed >= 2, "a download leaves a trace"


def test_an_operator_has_all_failures_of_a_reason_done_again_and_a_viewer_may_not(visit, page_site):
    again = re.compile("^Do 1 again")
    expect(visit("viewer").see("operations", "Operations").get_by_role("button", name=again)).to_be_disabled()
    visitor = visit("operator")
    page = visitor.see("operations", "Operations")
    visitor.shoot("operations")
    page.get_by_role("button", name=again).click()
    expect(page.get_by_text("Begun again: 1 of 1.")).to_be_visible()
    retried = "SELECT count(*) FROM jobs j JOIN studies s ON s.id = j.study_id WHERE s.study_instance_uid = :uid"
    assert page_site.bonewatch.one(retried, uid=page_site.broken) == 2


def test_an_operator_lets_a_paused_run_go_on_and_a_viewer_may_not(visit, page_site, database):
    version = page_site.bonewatch.one("SELECT max(model_version) FROM jobs WHERE model_version <> 'paged-model'")
    with database.write() as session:
        run = ReanalysisRun(
            source="store", direction="newest", model_version=version, state="paused", asked_by="night",
            created_at=datetime.now(UTC), maximum_studies=1,
        )  # fmt: skip
        session.add(run)
    viewer = visit("viewer").see("archive", "Archive night")
    expect(viewer.get_by_role("button", name="Resume")).to_be_disabled()
    visitor = visit("operator")
    page = visitor.see("archive", "Archive night")
    visitor.shoot("archive-night")
    page.get_by_role("button", name="Resume").click()
    state = "SELECT state FROM reanalysis_runs WHERE id = :id"
    wait_until(lambda: page_site.bonewatch.one(state, id=run.id) in ("running", "finished"), 60, "the run goes on")
    assert page_site.bonewatch.one("SELECT count(*) FROM events WHERE kind = 'reanalysis_running'") == 1
