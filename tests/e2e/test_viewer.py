"""The image of the page in a real browser, without a server: zoom by keys and buttons, and a finger that moves it."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator

from dicom_io.types import Box
from tests.browser import PHONE
from worker.ui import viewer
from worker.ui.viewer import ViewerImage, drawn

pytestmark = [pytest.mark.peer, pytest.mark.slow]

FOLDER = Path(viewer.__file__).parent
SHOW = """async ([script, data]) => {
  const { default: show } = await import(`data:text/javascript;base64,${script}`);
  show({ data, parentElement: document.body });
}"""
LISTEN = "() => addEventListener('keydown', (event) => { window.leftToTheBrowser = !event.defaultPrevented })"
CORNERS = """(text) => {
  const { x, y, width, height } = text.getBBox();
  return [x, y, x + width, y + height];
}"""


@pytest.fixture
def show(browser):
    """Show an image of 100 by 100 pixels, twice as high as wide, on a phone's page that can be scrolled."""
    width, height = PHONE
    context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=True, has_touch=True)
    page = context.new_page()
    css = (FOLDER / "viewer.css").read_text(encoding="utf-8")
    head = '<meta name="viewport" content="width=device-width">'
    page.set_content(f'{head}<style>{css}</style><div class="viewer"></div><div style="height: 3000px"></div>')
    script = base64.b64encode((FOLDER / "viewer.js").read_bytes()).decode()

    def showing(*boxes, dashed=False):
        picture = ViewerImage(np.zeros((100, 100), np.uint8), boxes, "Radiograph", aspect=2.0, dashed=dashed)
        page.evaluate(SHOW, [script, drawn(picture)])
        return page

    yield showing
    context.close()


@pytest.fixture
def page(show):
    """Show an image with one box."""
    return show(Box(10, 20, 30, 40, 0.9))


def place(page):
    """Return what of the image is seen: left, top, width, height."""
    return [float(each) for each in page.locator("svg").get_attribute("viewBox").split()]


def drag(page, right, down):
    """Draw a finger over the image."""
    session = page.context.new_cdp_session(page)
    x, y = 200, 300
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 11):
        point = {"x": x + right * step / 10, "y": y + down * step / 10}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_the_whole_image_is_shown_as_high_as_its_pixels_are_and_boxes_follow(page):
    assert place(page) == [0, 0, 100, 200]
    box = page.locator("rect.box")
    assert [float(box.get_attribute(name)) for name in ("x", "y", "width", "height")] == [10, 40, 20, 40]


def test_buttons_and_keys_zoom_in_move_and_show_the_whole_again(page):
    page.get_by_role("button", name="Zoom in").click()
    left, top, width, height = place(page)
    assert (width, height) == pytest.approx((100 / 1.4, 200 / 1.4))
    page.get_by_role("img", name="Radiograph").press("ArrowDown")
    assert place(page)[:2] == pytest.approx([left, top + width / 10])
    page.keyboard.press("0")
    assert place(page) == [0, 0, 100, 200]


@pytest.mark.parametrize(
    "corners",
    [(95, 50, 100, 60), (0, 0, 5, 100), (97, 0, 100, 3), (97, 97, 100, 100), (-3, -3, 5, 5)],
)
def test_a_score_is_inside_the_picture_wherever_its_box_is_and_however_far_one_zooms(show, corners):
    page = show(Box(*corners, 0.9))
    for _ in range(2):
        left, top, right, bottom = page.locator("svg text").evaluate(CORNERS)
        assert 0 <= left < right <= 100
        assert 0 <= top < bottom <= 200
        page.get_by_role("button", name="Zoom in").click()


def test_no_line_of_a_box_runs_through_the_score_of_another(show):
    page = show(Box(10, 20, 30, 40, 0.9), Box(5, 5, 50, 50, 0.8))
    drawn_in_order = page.locator("svg > rect, svg > text").evaluate_all("all => all.map((each) => each.tagName)")
    assert drawn_in_order == ["rect"] * 4 + ["text"] * 2


def test_no_button_lies_over_the_picture(page):
    picture = page.locator("svg").bounding_box()
    bottoms = [each["y"] + each["height"] for each in map(Locator.bounding_box, page.get_by_role("button").all())]
    assert len(bottoms) == 3
    assert max(bottoms) <= picture["y"]


@pytest.mark.parametrize("modifier", ["Control", "Meta"])
def test_the_browsers_own_zoom_keeps_its_keys(page, modifier):
    image = page.get_by_role("img", name="Radiograph")
    image.press("+")
    before = place(page)
    page.evaluate(LISTEN)
    for key in ("+", "-", "0"):
        image.press(f"{modifier}+{key}")
        assert page.evaluate("leftToTheBrowser"), key
    assert place(page) == before
    image.press("0")
    assert not page.evaluate("leftToTheBrowser")


def test_a_finger_moves_a_zoomed_image_in_every_direction_and_scrolls_past_a_whole_one(page):
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    left, top, *_ = place(page)
    drag(page, -60, -120)
    assert place(page)[0] > left
    assert place(page)[1] > top
    assert page.evaluate("scrollY") == 0

    page.get_by_role("button", name="Whole image").click()
    drag(page, 0, -120)
    page.wait_for_function("scrollY > 0")
    assert place(page) == [0, 0, 100, 200]


def test_scores_are_as_large_and_the_wheel_as_exact_where_a_high_picture_is_narrower_than_its_frame(page):
    page.set_viewport_size({"width": 1280, "height": 900})
    size = "text => parseFloat(text.getAttribute('font-size')) * text.ownerSVGElement.getScreenCTM().a"
    page.wait_for_function(f"Math.abs(({size})(document.querySelector('svg text')) - 15) < 0.5")

    corner = page.locator("rect.box").bounding_box()
    page.mouse.move(corner["x"], corner["y"])
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function("document.querySelector('svg').classList.contains('zoomed')")
    after = page.locator("rect.box").bounding_box()
    assert (after["x"], after["y"]) == pytest.approx((corner["x"], corner["y"]), abs=3)


def test_the_outline_of_an_unclear_image_s_region_is_dashed(show):
    style = "(box) => getComputedStyle(box).strokeDasharray"
    assert show(Box(10, 20, 30, 40, 0.3), dashed=True).locator("rect.box").evaluate(style) == "12px, 8px"
    assert show(Box(10, 20, 30, 40, 0.9)).locator("rect.box").evaluate(style) == "none"
