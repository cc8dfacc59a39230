"""The web page in a real browser, over a bonewatch that runs and was sent studies: login, uploads, hostile text."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from dicom_io.header.header import read_header
from tests.builders import build_dx, write_part10
from tests.e2e.conftest import HOSTILE_ACCESSION, HOSTILE_ID, PASSWORD, limb
from tests.product import SAMPLES

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

OUTCOMES = re.compile("Possible fracture|Unclear: look closely|No fracture found")


def events(site, kind):
    return site.bonewatch.rows("SELECT study_id, detail FROM events WHERE kind = :kind ORDER BY id", kind=kind)


def stored_files(site):
    return sorted(path for path in (site.bonewatch.home / "store").rglob("*") if path.is_file())


def test_only_name_and_password_lead_in_and_logging_out_leads_out(visit, page_site):
    visitor = visit(role=None)
    visitor.log_in("viewer", "a wrong password")
    expect(visitor.page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    visitor.shoot("login-refused")

    visitor.log_in("viewer", PASSWORD)
    expect(visitor.page.get_by_text("Decision support, never a diagnosis")).to_be_visible()
    visitor.rest()
    visitor.page.goto(f"{page_site.address}/logout")
    visitor.page.goto(f"{page_site.address}/operations")
    expect(visitor.page.get_by_role("button", name="Log in")).to_be_visible()
    assert events(page_site, "page_login_failed")
    assert events(page_site, "page_login")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 303), ("GET", "/_stcore/host-config", 401), ("PUT", "/_stcore/upload_file/a/b", 401)],
)
def test_nothing_answers_who_has_not_logged_in(page_site, method, path, status):
    claimed = {"x-bonewatch-name": "operator", "x-bonewatch-role": "operator"}
    answer = requests.request(method, page_site.address + path, headers=claimed, timeout=120, allow_redirects=False)
    assert answer.status_code == status
    assert "location" not in answer.headers or answer.headers["location"].startswith("/login?")


def test_uploaded_images_are_analysed_and_forgotten(visit, page_site, tmp_path):
    dicom = write_part10(build_dx(study="upload", pixels=limb()), tmp_path / "hand <b>left.dcm")
    picture = tmp_path / "wrist.png"
    Image.fromarray((limb() // 16).astype(np.uint8)).save(picture)
    studies = page_site.bonewatch.one("SELECT count(*) FROM studies")
    visitor = visit()
    page = visitor.see("analyse", "Analyse an X-ray")

    visitor.upload(dicom, picture)

    expect(page.get_by_text(OUTCOMES)).to_have_count(2)
    expect(page.get_by_role("img", name=re.compile("^Radiograph, "))).to_have_count(2)
    expect(page.get_by_role("img", name=re.compile("^Probability "))).to_have_count(2)
    expect(page.get_by_text("hand <b>left.dcm", exact=True).last).to_be_visible()
    expect(page.get_by_text(re.compile("Body part: HAND"))).to_be_visible()
    assert "left" not in page.locator("b").all_inner_texts()
    visitor.shoot("analyse")
    assert page_site.bonewatch.one("SELECT count(*) FROM studies") == studies
    assert page_site.uploads_on_disk() == []


def test_a_sample_that_an_operator_ticks_to_keep_is_answered_and_stands_in_the_worklist(visit, page_site):
    sample = SAMPLES / "01-hand-positive-cr" / "image-1.dcm"
    header = read_header(sample)
    stored = page_site.bonewatch.one("SELECT count(*) FROM instances")
    files = stored_files(page_site)
    visitor = visit("operator")
    page = visitor.see("analyse", "Analyse an X-ray")
    visitor.upload(sample)

    tick = page.get_by_role("checkbox", name=re.compile("^Keep: "))
    expect(tick).not_to_be_checked()
    visitor.rest()
    visitor.shoot("analyse-keep")
    assert page_site.bonewatch.one("SELECT count(*) FROM instances") == stored, "not ticked, not stored"
    assert stored_files(page_site) == files

    page.get_by_text(re.compile("^Keep: ")).click()
    expect(page.get_by_text(re.compile("^Stored. It stands in the worklist"))).to_be_visible()
    expect(tick).to_have_count(0)
    visitor.shoot("analyse-kept")
    (event,) = events(page_site, "upload_kept")
    assert json.loads(event["detail"]) == {"by": "operator"}
    assert page_site.bonewatch.one("SELECT count(*) FROM instances") == stored + 1
    page_site.bonewatch.wait_for(
        "SELECT count(*) FROM v_results WHERE study_instance_uid = :uid AND outcome IN ('present', 'absent', "
        "'inconclusive')",
        120,
        "the kept study is answered",
        uid=header.study_instance_uid,
    )
    (way,) = page_site.bonewatch.rows(
        "SELECT source, lane, report_state FROM v_results JOIN studies ON studies.id = v_results.study_id "
        "JOIN jobs ON jobs.id = job_id WHERE v_results.study_instance_uid = :uid",
        uid=header.study_instance_uid,
    )
    assert (way["source"], way["lane"]) == ("upload", "live")
    assert way["report_state"] != "none", "reported by the ordinary policy"
    page = visitor.see("", "Worklist")
    row = page.get_by_role("table").get_by_role("row", name=re.compile(header.patient_id))
    expect(row.get_by_text(OUTCOMES)).to_be_visible()


def test_frames_are_looked_at_one_by_one_and_images_of_a_study_side_by_side(visit, tmp_path):
    views = [
        write_part10(build_dx(study="views", instance=view, pixels=limb()), tmp_path / f"{view}.dcm")
        for view in ("PA", "LL")
    ]
    frames = np.stack([limb(), limb()[:, ::-1], limb()[::-1]])
    many = write_part10(build_dx(study="frames", pixels=frames), tmp_path / "many.dcm")
    visitor = visit()
    page = visitor.see("analyse", "Analyse an X-ray")

    visitor.upload(*views, many)

    expect(page.get_by_role("heading", name=re.compile("^2 images of one study: "))).to_be_visible()
    visitor.rest()  # each column is drawn when its turn comes
    left, right = (page.get_by_text(path.name, exact=True).last.bounding_box() for path in views)
    assert left["y"] == right["y"]
    assert left["x"] + 300 < right["x"]
    picker = page.get_by_role("combobox", name=re.compile("^Frame shown"))
    for number in (1, 2, 3):
        visitor.choose(picker, re.compile(f"^Frame {number}: "))
        expect(page.get_by_role("img", name=re.compile(f"^Radiograph, frame {number}, "))).to_be_visible()
        expect(page.get_by_role("img", name=re.compile("^Radiograph, frame "))).to_have_count(1)
    visitor.choose(page.get_by_role("combobox", name=re.compile("^Frame beside it")), re.compile("^Frame 1: "))
    pictures = [page.get_by_role("img", name=re.compile(f"^Radiograph, frame {number}, ")) for number in (3, 1)]
    expect(pictures[1]).to_be_visible()
    visitor.rest()
    left, right = (picture.bounding_box() for picture in pictures)
    assert left["x"] + left["width"] <= right["x"]
    visitor.shoot("analyse-frames")


def test_what_cannot_be_analysed_is_said_in_words(visit, tmp_path):
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(write_part10(build_dx(pixels=limb()), tmp_path / "whole.dcm").read_bytes()[:9000])
    letter, huge = tmp_path / "letter.dcm", tmp_path / "huge.dcm"
    letter.write_text("This is not an image.\n" * 40)
    with huge.open("wb") as file:
        file.truncate(300 * 10**6)
    visitor = visit()
    page = visitor.see("analyse", "Analyse an X-ray")

    visitor.upload(broken, letter, huge)

    expect(page.get_by_text("Could not be analysed")).to_have_count(2)
    expect(page.get_by_text(re.compile("neither a DICOM file nor", re.IGNORECASE))).to_be_visible()
    expect(page.get_by_text(re.compile(r"must be 20.*MB or smaller"))).to_be_visible()
    expect(page.get_by_text("A file marked red was not analysed")).to_be_visible()
    visitor.shoot("analyse-refused")


def test_text_from_dicom_files_is_shown_as_text(visit, page_site):
    visitor = visit()
    page = visitor.see(f"study?uid={page_site.hostile}", "Study")
    for text in (HOSTILE_ID, HOSTILE_ACCESSION):
        expect(page.get_by_text(text)).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "owned"
    visitor.shoot("study-hostile")
    assert page_site.bonewatch.one("SELECT count(*) FROM events WHERE kind = 'page_viewed' AND study_id IS NOT NULL"), (
        "who looks at a patient leaves a trace"
    )


def test_a_viewer_may_not_have_a_study_analysed_again_and_an_operator_may(visit, page_site):
    answers = (
        "SELECT count(*) FROM jobs JOIN studies ON studies.id = study_id "
        "WHERE study_instance_uid = :uid AND purpose = 'answer'"
    )
    before = page_site.bonewatch.one(answers, uid=page_site.two_views)
    button = (
        visit("viewer").see(f"study?uid={page_site.two_views}", "Study").get_by_role("button", name="Analyse again")
    )
    expect(button).to_be_disabled()

    visitor = visit("operator")
    page = visitor.see(f"study?uid={page_site.two_views}", "Study")
    page.get_by_role("button", name="Analyse again").click()
    visitor.rest()
    page_site.bonewatch.wait_for(
        "SELECT count(*) FROM events WHERE kind = 'page_pressed' AND study_id > 0 AND detail LIKE '%operator%'",
        60,
        "the button leaves a trace",
    )
    page_site.bonewatch.wait_for(
        answers.replace("count(*)", "count(*) > :before"),
        60,
        "the study has one more job",
        uid=page_site.two_views,
        before=before,
    )
