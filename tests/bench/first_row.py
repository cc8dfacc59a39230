"""How long a person waits for the worklist: from the address to its first row, in Chromium, over 100,000 studies.

    python -m tests.bench.first_row                     # 100,000 studies in SQLite
    python -m tests.bench.first_row --studies 1000 --visits 3

Four kinds of visit: a browser that was never here, one that has the page's programs in its cache, one that comes from
another page, and one that was never here and comes through the login, where a person types for some seconds. The load
of the machine is printed with them, as other work slows both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.bench.worklist import fill
from tests.browser import chromium
from tests.peers import LOOPBACK
from tests.product import Bonewatch
from worker.connection_url import parse_database_url
from worker.database import open_database, upgrade
from worker.ui.people import set_password

NAME, PASSWORD = "bench", "a password of the bench"
TYPING_MS = 5000
# Tells the moment in which the first row was in a frame, in milliseconds since the address was asked for.
WATCH = """(() => {
  const rows = (root) => root.querySelector("tbody tr") || [...root.querySelectorAll("*")]
    .some((each) => each.shadowRoot && rows(each.shadowRoot));
  const look = () => {
    if (document.body && rows(document)) window.firstRow = performance.now();
    else requestAnimationFrame(look);
  };
  window.watchAgain = () => { window.firstRow = undefined; look(); };
  look();
})()"""
# What the browser itself calls its first paint with content.
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def first_row(page: Page) -> float:
    """Return the milliseconds until the first row, once it is there."""
    page.wait_for_function("window.firstRow")
    return float(page.evaluate("window.firstRow"))


def visits(browser: Browser, address: str, number: int) -> dict[str, list[float]]:
    """Return milliseconds until the first row by the kind of visit."""
    painted = "never here before, first paint"
    taken: dict[str, list[float]] = {
        painted: [], "never here before": [], "here before": [], "from another page": []
    }  # fmt: skip
    for _ in range(number):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(120_000)
        context.add_init_script(WATCH)
        page = context.new_page()
        for kind in ("never here before", "here before"):
            page.goto(address, wait_until="commit")
            taken[kind].append(first_row(page))
            if kind == "never here before":
                taken[painted].append(page.evaluate(FIRST_PAINT))
            page.goto("about:blank")
        page.goto(f"{address}/analyse", wait_until="commit")
        page.get_by_role("heading", name="Analyse an X-ray", level=1).wait_for()
        page.wait_for_timeout(2000)  # until what this page fetched and drew is no more in the way
        started = page.evaluate("window.watchAgain() || performance.now()")
        page.get_by_role("link", name="Worklist").first.click()
        taken["from another page"].append(first_row(page) - started)
        context.close()
    return taken


def after_login(browser: Browser, address: str, number: int) -> list[float]:
    """Return milliseconds from the login's button to the first row, each time in a browser that was never here."""
    taken = []
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
        taken.append(first_row(page) + page.evaluate("performance.timeOrigin") - pressed)
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
            print(f"{visits(browser, address, 1)['never here before'][0]:8.0f} ms  the first visit of the server")
            for kind, taken in visits(browser, address, wanted.visits).items():
                tell(kind, taken)
        passwords = Path(folder) / "passwords"
        set_password(passwords, NAME, "operator", PASSWORD)
        with served(Bonewatch(home, ui_password_file=str(passwords))) as address, chromium() as browser:
            after_login(browser, address, 1)
            tell("never here before, after the login", after_login(browser, address, wanted.visits))
        print(f"load before and after: {busy:.1f} and {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


@contextmanager
def served(site: Bonewatch) -> Iterator[str]:
    """Serve the page of an installation; yields its address."""
    site.start_page(seconds=120)
    try:
        yield f"http://{LOOPBACK}:{site.page_port}"
    finally:
        site.kill()


def tell(kind: str, taken: list[float]) -> None:
    """Print one line of times."""
    middle, count = statistics.median(taken), len(taken)
    print(f"{middle:8.0f} ms  {kind} (median of {count}, {min(taken):.0f} to {max(taken):.0f})", flush=True)


if __name__ == "__main__":
    main()
