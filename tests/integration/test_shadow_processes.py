"""A real worker with two bundles: one answers and reports, the other runs in shadow."""

from __future__ import annotations

import pytest

from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from tests.worker_processes import running_site
from worker.promotion import end_shadow, run_in_shadow
from worker.tables import utc_now

pytestmark = pytest.mark.slow


def test_one_bundle_answers_and_reports_and_the_other_is_only_stored(tmp_path):
    second = write_tiny_bundle(tmp_path / "second")
    decision = {"low": 0.0001, "high": 0.0002, "box_score": 0.99, "rule": "finds a fracture in everything"}
    write_manifest(second, tiny_manifest(second) | {"name": "second", "decision": decision})
    with running_site(tmp_path) as site:
        version = run_in_shadow(second, site.settings.home, utc_now()).after
        for number in range(3):
            site.receive(f"study-{number}")
        site.start("schedule")
        site.start("work")

        site.wait_for_jobs(6, seconds=300)

        shadows = site.rows("SELECT model_version, outcome, revision FROM jobs WHERE purpose = 'shadow'")
        assert shadows == [(version, "present", 0)] * 3
        assert site.one("SELECT count(*) FROM reports JOIN jobs ON jobs.id = job_id WHERE purpose = 'answer'") == 3
        assert site.one("SELECT count(*) FROM reports") == 3
        assert site.one("SELECT count(*) FROM v_results WHERE model_version <> :it", it=version) == 3
        assert site.one("SELECT count(*) FROM v_model_changes WHERE shadow = 1 AND kind = 'newly_suspected'") == 3

        end_shadow(site.settings.home, utc_now())
        site.receive("later")
        site.wait_for_jobs(7, seconds=300)
        assert site.one("SELECT count(*) FROM jobs WHERE purpose = 'shadow'") == 3
