"""Real worker processes with a real, tiny model: what they do, what they are given back, how they stop.

What a kill, a wipe and a double leave behind: `test_worker_kills`.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_io.demo_pacs import DemoPacs
from dicom_io.header.header import read_header
from tests.peers import LOOPBACK, wait_until
from tests.processes import children
from tests.worker_processes import Site, running_site, shadow_bundle
from worker.bundles.promotion import run_in_shadow
from worker.errors import QueueUnavailable
from worker.operate.status import snapshot
from worker.queue.app import create_app
from worker.study.queues import CeleryQueue

pytestmark = pytest.mark.slow

SAID = "SELECT study_id, lane, purpose, state, outcome, attempts FROM jobs ORDER BY study_id, purpose"
RESULTS = """
    SELECT j.purpose, count(*), count(DISTINCT i.instance_id) FROM image_results i JOIN jobs j ON j.id = i.job_id
    GROUP BY j.purpose ORDER BY j.purpose
"""
SENT = """
    SELECT j.purpose, count(*) FROM deliveries d JOIN reports r ON r.id = d.report_id JOIN jobs j ON j.id = r.job_id
    GROUP BY j.purpose
"""
UNSENT = "SELECT count(*) FROM deliveries WHERE state <> 'committed'"


def queue(site: Site) -> CeleryQueue:
    return CeleryQueue(create_app(site.settings))


def test_workers_give_work_back_until_their_model_is_mended_do_all_of_it_once_and_stop_when_asked(tmp_path):
    """The site's model finds nothing, the one in shadow calls all of it present; a PACS takes what it is sent."""
    with DemoPacs(tmp_path / "pacs") as pacs:
        destination = {"name": "pacs", "ae_title": pacs.ae_title, "host": LOOPBACK, "port": pacs.port}
        rules = {"destinations": [destination | {"confirm": "store"}], "archive_reports": "always", "lease_seconds": 60}
        with running_site(tmp_path, **rules) as site:
            run_in_shadow(shadow_bundle(tmp_path / "second"), site.settings.home, datetime.now(UTC))
            weights = next((tmp_path / "bundle").glob("*.safetensors"))
            sound = weights.read_bytes()
            weights.write_bytes(sound[:-1])
            site.receive("fetched")
            site.into_archive()
            site.receive("one")
            workers = [site.start("schedule"), site.start("work")]
            wait_until(lambda: snapshot(site.database, queue(site)).waiting_with_reason, 60, "the reason is told")
            assert_is_given_back(site)

            weights.write_bytes(sound)
            site.receive("two", images=2)
            site.wait_for_jobs(5)
            wait_until(lambda: site.one("SELECT count(*) FROM deliveries") >= 3, 60, "every answer has a delivery")
            wait_until(lambda: site.one(UNSENT) == 0, 60, "every delivery is made")
            pool = children(workers[1].pid)
            for worker in workers:
                worker.send_signal(signal.SIGTERM)

            assert [worker.wait(60) for worker in workers] == [0, 0]
            assert not [pid for pid in pool if Path(f"/proc/{pid}").exists()]
            assert_answers_and_shadows_are_kept_and_answers_alone_are_sent(site, tmp_path / "pacs")
            # No schedule file of the beat, no pid file of Celery: the home holds what is ours.
            names = {path.name for path in site.settings.home.iterdir() if "bonewatch.sqlite3" not in path.name}
            assert names == {"broker", "bundles", "run", "store"}


def assert_is_given_back(site: Site) -> None:
    told = snapshot(site.database, queue(site)).waiting_with_reason
    assert {reason.startswith("this worker has no usable model: ") for reason, _ in told} == {True}
    assert set(site.rows("SELECT state, attempts FROM jobs")) == {("queued", 0)}


def assert_answers_and_shadows_are_kept_and_answers_alone_are_sent(site: Site, pacs_folder: Path) -> None:
    assert site.rows(SAID) == [
        (1, "archive", "answer", "done", "absent", 1),
        (2, "live", "answer", "done", "absent", 1), (2, "archive", "shadow", "done", "present", 1),
        (3, "live", "answer", "done", "absent", 1), (3, "archive", "shadow", "done", "present", 1),
    ]  # fmt: skip
    assert site.rows(RESULTS) == [("answer", 4, 4), ("shadow", 3, 3)]
    assert site.rows(SENT) == [("answer", 3)]
    reported = site.rows("SELECT sop_instance_uid FROM reports")
    received = [read_header(path.read_bytes()).sop_instance_uid for path in pacs_folder.rglob("*.dcm")]
    assert sorted(received) == sorted(uid for (uid,) in reported)
    assert len(received) == len(list((site.settings.store / "reports").iterdir())) == 3


def test_without_a_broker_sending_and_counting_fail_soon_and_in_words(tmp_path):
    site = Site(tmp_path)
    try:
        with pytest.raises(QueueUnavailable, match="does not answer"):
            queue(site).send_job(1, "live")
        with pytest.raises(QueueUnavailable, match="does not answer"):
            queue(site).lengths()
    finally:
        site.close()
