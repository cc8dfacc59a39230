"""The image of the page in a real browser, without a server: zoom by keys and buttons, and a finger that moves it."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from tests.browser import PHONE
from worker.ui import viewer
from worker.ui.viewer import Picture, ShownBox, drawn

pytestmark = [pytest.mark.peer, pytest.mark.slow]

FOLDER = Path(viewer.__file__).parent
SHOW = """async ([script, data]) => {
  const { default: show } = await import(`data:text/javascript;base64,${script}`);
  show({ data, parentElement: document.body });
}"""


@pytest.fixture
def page(browser):
    """Open a phone's page with an image of 100 by 100 pixels, twice as high as wide; it can be scrolled."""
    width, height = PHONE
    context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=True, has_touch=True)
    page = context.new_page()
    css = (FOLDER / "viewer.css").read_text(encoding="utf-8")
    head = '<meta name="viewport" content="width=device-width">'
    page.set_content(f'{head}<style>{css}</style><div class="viewer"></div><div style="height: 3000px"></div>')
    script = base64.b64encode((FOLDER / "viewer.js").read_bytes()).decode()
    pixels = np.zeros((100, 100), np.uint8)
    page.evaluate(SHOW, [script, drawn(Picture(pixels, [ShownBox(10, 20, 30, 40, "0.90")], "Radiograph", aspect=2.0))])
    yield page
    context.close()


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
