"""How long a person waits for the worklist: from the address to its first row, in Chromium, over 100,000 studies.

    python -m tests.bench.first_row                     # 100,000 studies in SQLite
    python -m tests.bench.first_row --studies 1000 --visits 3

Four kinds of visit: a browser that was never here, one that has the page's programs in its cache, one that comes from
another page, and one that was never here and comes through the login, where a person types for some seconds. Rows come
twice: in the page itself, to be read, and then with the filters and buttons around them. The load of the machine is
printed with them, as other work slows both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.bench.worklist import fill
from tests.browser import chromium
from tests.peers import LOOPBACK
from tests.product import Bonewatch
from worker.db.database import open_database, upgrade
from worker.settings.connection_url import parse_database_url
from worker.ui.people import set_password

NAME, PASSWORD = "bench", "a password of the bench"
TYPING_MS = 5000
# Tells the moments in which a row, and a row that Streamlit drew, was first in a frame: milliseconds since the address
# was asked for.
WATCH = """(() => {
  const rows = (root) => root.querySelector("tbody tr") || [...root.querySelectorAll("*")]
    .some((each) => each.shadowRoot && rows(each.shadowRoot));
  const look = () => {
    if (document.body && rows(document)) {
      window.firstRow ??= performance.now();
      if (!document.getElementById("first-rows")) { window.liveRow = performance.now(); return; }
    }
    requestAnimationFrame(look);
  };
  window.watchAgain = () => { window.firstRow = window.liveRow = undefined; look(); };
  look();
})()"""
# What the browser itself calls its first paint with content.
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def rows(page: Page) -> tuple[float, float]:
    """Return the milliseconds until the first row, and until rows with filters and buttons, once both are there."""
    page.wait_for_function("window.liveRow")
    return float(page.evaluate("window.firstRow")), float(page.evaluate("window.liveRow"))


def visits(browser: Browser, address: str, number: int) -> dict[str, list[float]]:
    """Return milliseconds by the kind of visit and what was waited for."""
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(number):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(120_000)
        context.add_init_script(WATCH)
        page = context.new_page()
        for kind in ("never here before", "here before"):
            page.goto(address, wait_until="commit")
            first, live = rows(page)
            taken[f"{kind}: first paint"].append(page.evaluate(FIRST_PAINT))
            taken[f"{kind}: first row"].append(first)
            taken[f"{kind}: rows with filters and buttons"].append(live)
            page.goto("about:blank")
        page.goto(f"{address}/analyse", wait_until="commit")
        page.get_by_role("heading", name="Analyse an X-ray", level=1).wait_for()
        page.wait_for_timeout(2000)  # until what this page fetched and drew is no more in the way
        started = page.evaluate("window.watchAgain() || performance.now()")
        page.get_by_role("link", name="Worklist").first.click()
        taken["from another page: rows with filters and buttons"].append(rows(page)[1] - started)
        context.close()
    return taken


def after_login(browser: Browser, address: str, number: int) -> dict[str, list[float]]:
    """Return milliseconds from the login's button, each time in a browser that was never here."""
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(number):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(120_000)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.goto(address)
        page.wait_for_timeout(TYPING_MS)
        page.get_by_label("Name").fill(NAME)
        page.get_by_label("Password").fill(PASSWORD)
        pressed = page.evaluate("performance.timeOrigin + performance.now()")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{address}/")
        since_pressed = page.evaluate("performance.timeOrigin") - pressed
        first, live = rows(page)
        taken["never here before, after the login: first row"].append(first + since_pressed)
        taken["never here before, after the login: rows with filters and buttons"].append(live + since_pressed)
        context.close()
    return taken


def main() -> None:
    """Fill, serve, visit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--visits", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        url = parse_database_url(f"sqlite:///{home}/bonewatch.sqlite3")
        upgrade(url)
        database = open_database(url)
        started = time.perf_counter()
        fill(database, wanted.studies)
        database.close()
        print(f"{wanted.studies:,} studies drawn in {time.perf_counter() - started:.0f} s")
        busy = os.getloadavg()[0]
        with served(Bonewatch(home)) as address, chromium() as browser:
            first = visits(browser, address, 1)["never here before: first row"][0]
            print(f"{first:8.0f} ms  the first visit, while the server still starts: first row")
            tell(visits(browser, address, wanted.visits))
        passwords = Path(folder) / "passwords"
        set_password(passwords, NAME, "operator", PASSWORD)
        with served(Bonewatch(home, ui_password_file=str(passwords))) as address, chromium() as browser:
            after_login(browser, address, 1)
            tell(after_login(browser, address, wanted.visits))
        print(f"load before and after: {busy:.1f} and {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


@contextmanager
def served(site: Bonewatch) -> Iterator[str]:
    """Serve the page of an installation; yields its address."""
    site.start_page(seconds=120)
    try:
        yield f"http://{LOOPBACK}:{site.page_port}"
    finally:
        site.kill()


def tell(times: Mapping[str, list[float]]) -> None:
    """Print a line for each kind of time."""
    for kind, taken in times.items():
        middle, count = statistics.median(taken), len(taken)
        print(f"{middle:8.0f} ms  {kind} (median of {count}, {min(taken):.0f} to {max(taken):.0f})", flush=True)


if __name__ == "__main__":
    main()
