"""One bonewatch with its page for all tests that look at it, with studies that were pushed to it over DICOM."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests import scu
from tests.browser import Visitor, chromium
from tests.builders import build_cr, build_dx, uid, write_part10
from tests.bundles import write_tiny_bundle
from tests.peers import LOOPBACK, free_port
from tests.product import Bonewatch
from worker.ui.access.people import set_password

PASSWORD = "correct horse battery"  # noqa: S105 - of the tests
# Everything that HTML, Markdown and Streamlit give a meaning, as a patient's id (PS3.5 6.2, VR LO) may hold it.
HOSTILE_ID = "<img src=x onerror=document.title='owned'> **b** :smile: $x$"
HOSTILE_ACCESSION = "<b>bold</b> `c`"


@dataclass(frozen=True)
class PageSite:
    """A running bonewatch whose page asks for a login, and the studies that it was sent."""

    bonewatch: Bonewatch
    pictures: Path
    two_views: str = uid("two")
    hostile: str = uid("hostile")
    broken: str = uid("broken")

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.bonewatch.page_port}"

    def uploads_on_disk(self) -> list[Path]:
        """Return what lies on disk of uploads."""
        assert self.bonewatch.temporary is not None
        return [each for place in (self.bonewatch.home, self.bonewatch.temporary) for each in place.rglob("*upload*")]


@pytest.fixture(scope="package")
def page_site(tmp_path_factory):
    """It has three studies: two views of a hand, one whose patient id is made of HTML, one with too few pixels."""
    folder = tmp_path_factory.mktemp("page")
    passwords = folder / "passwords"
    for name in ("viewer", "operator"):
        set_password(passwords, name, name, PASSWORD)
    bonewatch = Bonewatch(
        folder / "home",
        page=True,
        temporary=folder / "tmp",
        bundle=str(write_tiny_bundle(folder / "bundle")),
        ui_password_file=str(passwords),
        ui_upload_megabytes=20,
        destinations=[{"name": "pacs", "ae_title": "PACS", "host": LOOPBACK, "port": free_port()}],
    )
    studies = _studies(folder / "sent")
    try:
        bonewatch.start("up", seconds=240)
        assert set(scu.push(bonewatch.port, [scu.message(path) for path in studies])) == {0}
        bonewatch.wait_for(
            "SELECT count(*) >= 3 FROM jobs WHERE state IN ('done', 'failed')", 120, "three studies are answered"
        )
        yield PageSite(bonewatch, folder / "pictures")
        bonewatch.stop()
    finally:
        bonewatch.kill()


@pytest.fixture(scope="package")
def masked_site(page_site):
    """The page of the same site once more: without a login, patients masked, and with the model that ships.

    It forgets closed pages after a second.
    """
    masked = Bonewatch(
        page_site.bonewatch.home,
        temporary=page_site.bonewatch.temporary,
        ui_mask_patients=True,
        ui_upload_megabytes=20,
        ui_uploads=3,
    )
    try:
        masked.start_page(sys.executable, "-m", "tests.hasty_page", seconds=120)
        yield PageSite(masked, page_site.pictures)
        masked.stop()
    finally:
        masked.kill()


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of one file."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser, page_site):
    """Make visitors; `role` None has not logged in."""
    visitors = []

    def make(role: str | None = "viewer", **look):
        visitors.append(Visitor(browser, page_site.address, page_site.pictures, **look))
        if role is not None:
            visitors[-1].log_in(role, PASSWORD)
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.close()


def limb(rows: int = 180, columns: int = 140) -> np.ndarray:
    """Return uint16 pixels, (rows, columns), of something long and bright with a dark line across."""
    down, across = np.mgrid[0:rows, 0:columns]
    bone = 3200 * np.exp(-(((across - columns / 2) / (columns / 6)) ** 2))
    bone[np.abs(down - rows * 0.55 - (across - columns / 2) * 0.4) < 2] *= 0.4
    return (300 + bone).astype(np.uint16)


def _studies(folder: Path) -> list[Path]:
    views = [
        build_dx(study="two", instance=view, pixels=limb(), ViewPosition=view, PatientID="TWO-VIEWS")
        for view in ("PA", "LL")
    ]
    hostile = build_cr(
        study="hostile",
        pixels=limb(),
        PatientID=HOSTILE_ID,
        PatientName="<script>document.title='owned'</script>",
        AccessionNumber=HOSTILE_ACCESSION,
    )
    broken = build_cr(study="broken", Rows=500, PatientID="BROKEN")
    return [write_part10(ds, folder / f"{number}.dcm") for number, ds in enumerate([*views, hostile, broken])]
