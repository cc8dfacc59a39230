"""A model in shadow in real worker processes, and a PACS that takes what it is sent: the reports of answers alone."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_io.demo_pacs import DemoPacs
from dicom_io.header.header import read_header
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from tests.peers import LOOPBACK, wait_until
from tests.processes import children
from tests.worker_processes import Site, running_site
from worker.bundles.promotion import run_in_shadow

pytestmark = pytest.mark.slow

SAID = "SELECT study_id, purpose, state, outcome, attempts FROM jobs ORDER BY study_id, purpose"
IMAGES = 120
"""Enough that a busy machine still kills in the middle of them."""
RESULTS = """
    SELECT j.purpose, count(*), count(DISTINCT i.instance_id) FROM image_results i JOIN jobs j ON j.id = i.job_id
    GROUP BY j.purpose ORDER BY j.purpose
"""
SENT = """
    SELECT j.purpose, count(*) FROM deliveries d JOIN reports r ON r.id = d.report_id JOIN jobs j ON j.id = r.job_id
    GROUP BY j.purpose
"""
ANSWERED = "SELECT count(*) FROM jobs WHERE state = 'done' AND purpose = 'answer'"
OPEN = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"
UNSENT = "SELECT count(*) FROM deliveries WHERE state <> 'committed'"


@pytest.fixture
def pacs(tmp_path):
    with DemoPacs(tmp_path / "pacs") as pacs:
        yield pacs


@pytest.fixture
def site(tmp_path, pacs):
    """A site whose model finds nothing, and in shadow one that calls all of it present."""
    destination = {"name": "pacs", "ae_title": pacs.ae_title, "host": LOOPBACK, "port": pacs.port, "confirm": "store"}
    rules = {"destinations": [destination], "archive_reports": "always", "lease_seconds": 10}
    with running_site(tmp_path, **rules) as site:
        run_in_shadow(suspicious_bundle(tmp_path / "second"), site.settings.home, datetime.now(UTC))
        yield site


def suspicious_bundle(folder: Path) -> Path:
    manifest = tiny_manifest(write_tiny_bundle(folder)) | {"date": "2026-02-02"}
    manifest["decision"] |= {"low": 0.01, "high": 0.02, "box_score": 0.99}
    write_manifest(folder, manifest)
    return folder


def assert_answers_alone_are_sent(site: Site, pacs_folder: Path, studies: int) -> None:
    wait_until(lambda: site.one("SELECT count(*) FROM deliveries") >= studies, 60, "every answer has a delivery")
    wait_until(lambda: site.one(UNSENT) == 0, 60, "every delivery is made")
    assert site.rows(SENT) == [("answer", studies)]
    reported = site.rows("SELECT sop_instance_uid FROM reports")
    received = [read_header(path.read_bytes()).sop_instance_uid for path in pacs_folder.rglob("*.dcm")]
    assert sorted(received) == sorted(uid for (uid,) in reported)
    assert len(received) == studies


def test_what_is_pushed_is_answered_and_sent_once_and_the_shadows_results_are_only_kept(site, tmp_path):
    site.receive("fetched")
    site.into_archive()
    site.receive("one")
    site.receive("two", images=2)
    site.start("schedule")
    site.start("work")

    site.wait_for_jobs(5)

    assert site.rows(SAID) == [
        (1, "answer", "done", "absent", 1),
        (2, "answer", "done", "absent", 1), (2, "shadow", "done", "present", 1),
        (3, "answer", "done", "absent", 1), (3, "shadow", "done", "present", 1),
    ]  # fmt: skip
    assert site.rows(RESULTS) == [("answer", 4, 4), ("shadow", 3, 3)]
    assert_answers_alone_are_sent(site, tmp_path / "pacs", studies=3)


def test_a_pool_process_killed_in_the_middle_of_a_shadow_leaves_one_result_of_it(site, tmp_path):
    site.receive("long", images=IMAGES)
    site.start("schedule")
    worker = site.start("work")
    wait_until(lambda: site.one(ANSWERED), 120, "the answer is there", every=0.01)
    pool = children(worker.pid)  # looked up before: the shadow does not wait for us
    running = "SELECT count(*) FROM jobs WHERE state = 'running' AND purpose = 'shadow'"
    wait_until(lambda: site.one(running), 120, "the model in shadow works", every=0.01)

    for pid in pool:
        os.kill(pid, signal.SIGKILL)

    assert site.one(running) == 1, "killed too late to show anything"
    wait_until(lambda: site.one(OPEN) == 0, 120, "both jobs have ended")
    assert site.rows(SAID) == [(1, "answer", "done", "absent", 1), (1, "shadow", "done", "present", 2)]
    assert site.rows(RESULTS) == [("answer", IMAGES, IMAGES), ("shadow", IMAGES, IMAGES)]
    assert_answers_alone_are_sent(site, tmp_path / "pacs", studies=1)
