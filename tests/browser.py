"""A person at the page: headless Chromium, and what such a person finds when they look.

`BONEWATCH_SCREENSHOTS` names a folder that keeps the pictures taken.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.peers import program

PATIENCE_SECONDS = 180.0
WIDE, PHONE = (1280, 900), (390, 844)
# A page of Streamlit says of itself when its script has run.
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]"

CONTRAST = Path(__file__).with_name("contrast.js")
# What can be pressed, filled in or looked at, in a line of the tree for screen readers that holds no name.
NAMELESS = re.compile(
    r"\s*- (button|checkbox|combobox|heading|link|radio|slider|spinbutton|switch|tab|table|textbox)(?![a-z]| \")"
    r"|\s*- img$"
)
MOST_TABS = 60


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser. While it runs, no other asyncio can in this thread: keep it to a module."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """Somebody who looks at the page with a browser of their own: no cookie of anybody else."""

    def __init__(
        self,
        browser: Browser,
        address: str,
        pictures: Path,
        *,
        size: tuple[int, int] = WIDE,
        scheme: Literal["light", "dark"] = "light",
    ) -> None:
        self.address = address
        self._pictures = Path(os.environ.get("BONEWATCH_SCREENSHOTS", pictures))
        width, height = size
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            is_mobile=size == PHONE,
            has_touch=size == PHONE,
            accept_downloads=True,
        )
        self._context.set_default_timeout(PATIENCE_SECONDS * 1000)
        expect.set_options(timeout=PATIENCE_SECONDS * 1000)
        self.page: Page = self._context.new_page()

    def close(self) -> None:
        self._context.close()

    def log_in(self, name: str, password: str) -> None:
        """Fill in the form and send it, whatever comes of it."""
        self.page.goto(f"{self.address}/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def see(self, path: str, heading: str) -> Page:
        """Go to a page and return it once it shows this heading and is at rest."""
        self.page.goto(f"{self.address}/{path}")
        expect(self.page.get_by_role("heading", name=heading, exact=True, level=1)).to_be_visible()
        self.rest()
        return self.page

    def rest(self) -> None:
        """Wait until the page has done all that it was asked."""
        expect(self.page.locator(SETTLED)).to_be_visible()
        # What stands for a part whose program the browser still fetches.
        expect(self.page.get_by_test_id("stSkeleton")).to_have_count(0)

    def choose(self, picker: Locator, name: re.Pattern[str]) -> None:
        """Choose from a list. What Streamlit draws meanwhile may close it: then it is opened once more."""
        option = self.page.get_by_role("option", name=name)
        for _ in range(10):
            self.rest()
            picker.click()
            with contextlib.suppress(PlaywrightTimeout):
                option.click(timeout=10_000)
                self.rest()
                return
            self.page.keyboard.press("Escape")
        pytest.fail(f"{name.pattern} cannot be chosen")

    def upload(self, *files: Path) -> None:
        self.page.locator("input[type=file]").set_input_files(files)
        self.rest()

    def shoot(self, name: str, animations: Literal["allow", "disabled"] = "disabled") -> Path:
        """Keep a picture of the whole page; "disabled" shows animations as they end."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = self._pictures / f"{name}.png"
        main = self.page.get_by_test_id("stMain")
        # Streamlit's page scrolls inside the window: a window as high as the page shows all of it.
        height = main.evaluate("main => main.scrollHeight") if main.count() else 0
        size = self.page.viewport_size
        assert size is not None
        self.page.set_viewport_size({"width": size["width"], "height": min(4000, max(size["height"], height))})
        self.page.screenshot(path=path, animations=animations)
        self.page.set_viewport_size(size)
        return path

    def faint_texts(self) -> list[str]:
        """Return the texts that are too faint to read for WCAG 2.2, 1.4.3 (AA), of a page at rest."""
        found: list[str] = []
        for _ in range(3):  # Streamlit pales what it is about to look up anew: what is faint must stay so
            self.rest()
            found = self.page.evaluate(CONTRAST.read_text(encoding="utf-8"))
            if not found:
                break
        return found

    def is_scrolled_sideways(self) -> bool:
        """Say whether the page is wider than the window."""
        wide = "[document.documentElement, ...document.querySelectorAll('[data-testid=stMain]')]"
        found: bool = self.page.evaluate(f"{wide}.some(each => each.scrollWidth > each.clientWidth)")
        return found or self.page.evaluate("window.innerWidth") != self.page.viewport_size["width"]  # type: ignore[index]

    def nameless(self) -> list[str]:
        """Return the controls and images for which a screen reader has no name, as the browser tells it."""
        lines = self.page.locator("body").aria_snapshot().splitlines()
        return [line.strip() for line in lines if NAMELESS.match(line)]

    def tab_to(self, role: str, name: str) -> None:
        """Press Tab until this control has the focus, as somebody without a mouse must."""
        wanted = self.page.get_by_role(role, name=re.compile(name))  # type: ignore[arg-type]
        for _ in range(MOST_TABS):
            self.page.keyboard.press("Tab")
            if wanted.evaluate_all("all => all.some(each => each.getRootNode().activeElement === each)"):
                return
        raise AssertionError(f"{MOST_TABS} times Tab do not lead to {role} {name}")
