"""The page for everybody: on a phone, in the dark, with little sight, without a mouse, with a screen reader."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser import PHONE, WIDE, Visitor
from tests.builders import build_dx, write_part10
from tests.e2e.conftest import limb

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

LOOKS = {"light-wide": {"size": WIDE, "scheme": "light"}, "dark-phone": {"size": PHONE, "scheme": "dark"}}
# How bright the ground is, 0 to 255.
GROUND = "Math.max(...getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/[0-9]+/g).slice(0, 3))"


def is_for_everybody(visitor: Visitor, name: str) -> None:
    visitor.shoot(name)
    assert not visitor.is_scrolled_sideways(), f"{name} is wider than the window"
    assert visitor.faint_texts() == [], f"{name} has texts that are too faint"
    assert visitor.nameless() == [], f"{name} has controls without a name"


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_readable_and_has_names_for_all_its_controls(visit, page_site, look, tmp_path):
    stranger = visit(role=None, **LOOKS[look])
    stranger.page.goto(f"{page_site.address}/login")
    assert not stranger.is_scrolled_sideways()
    assert stranger.nameless() == []

    visitor = visit("operator", **LOOKS[look])
    page = visitor.see("", "Worklist")
    ground = page.evaluate(GROUND)
    assert ground < 40 if "dark" in look else ground > 240
    expect(page.get_by_role("table").get_by_role("link").first).to_be_in_viewport()
    page.get_by_text("More filters").click()
    is_for_everybody(visitor, f"{look}-worklist")

    page = visitor.see(f"study?uid={page_site.two_views}", "Study")
    expect(page.get_by_role("img", name=re.compile("^Radiograph, ")).first).to_be_visible()
    for tab in ("Time line", "Report", "Answers of all models", "Images"):
        page.get_by_role("tab", name=tab).click()
        is_for_everybody(visitor, f"{look}-study-{tab.split()[0].lower()}")

    visitor.see("analyse", "Analyse an X-ray")
    visitor.upload(write_part10(build_dx(study="upload", pixels=limb()), tmp_path / "hand.dcm"))
    expect(page.get_by_role("img", name=re.compile("^Radiograph, "))).to_be_visible()
    is_for_everybody(visitor, f"{look}-analyse")

    for path, heading in (("archive", "Archive night"), ("operations", "Operations")):
        visitor.see(path, heading)
        is_for_everybody(visitor, f"{look}-{path}")


@pytest.mark.parametrize("look", LOOKS)
def test_the_models_figures_are_readable_too(browser, masked_site, look):
    visitor = Visitor(browser, masked_site.address, masked_site.pictures, **LOOKS[look])
    try:
        page = visitor.see("model", "Model")
        expect(page.get_by_role("heading", name="ROC curve")).to_be_visible()
        is_for_everybody(visitor, f"{look}-model")
    finally:
        visitor.close()


def test_filters_a_study_and_the_upload_are_reached_and_work_by_keyboard_alone(visit, page_site, tmp_path):
    visitor = visit()
    page = visitor.see("", "Worklist")
    visitor.tab_to("radio", "^All$")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile("outcome=present"))

    page = visitor.see("?model=2026", "Worklist")
    visitor.tab_to("textbox", "^Patient ID")
    page.keyboard.type("TWO-VIEWS")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("text=TWO-VIEWS"))
    visitor.tab_to("link", "")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Study", exact=True, level=1)).to_be_visible()
    visitor.rest()
    visitor.tab_to("tab", "^Images")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("cell", name=re.compile("^analysed: ")).first).to_be_visible()

    page.on("filechooser", lambda _: None)  # from the first listener on, and not before, the browser tells of one
    visitor.see("analyse", "Analyse an X-ray")
    visitor.tab_to("button", "^Upload$")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(write_part10(build_dx(pixels=limb()), tmp_path / "hand.dcm"))
    expect(page.get_by_role("img", name=re.compile("^Radiograph, "))).to_be_visible()
