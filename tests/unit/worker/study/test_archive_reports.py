"""When archive work makes a report, and which one it names as the one before."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from dicom_io.errors import PixelDataTruncated
from tests.databases import MORNING, an_instance
from tests.fakes_worker import ABSENT, PRESENT, FakeAnalyzer, FakeFrames
from tests.unit.worker.study.test_pipeline import Bench
from worker.db.tables import Delivery, Event, Job, Report, Study
from worker.study.pipeline import ReportRule
from worker.study.studies import add_job, current_digest

NEWER = "2026-09-01-second+89abcdef"


@pytest.fixture
def bench(tmp_path):
    """A study whose first model, in the live lane, said 'absent', and whose report every destination has committed."""
    bench = Bench(tmp_path)
    bench.use(analyzer=FakeAnalyzer(ABSENT))
    bench.run(bench.job())
    deliveries_become(bench, "committed")
    yield bench
    bench.database.close()


def deliveries_become(bench, state):
    with bench.database.write() as session:
        session.execute(update(Delivery).values(state=state))


def again(bench, answer, lane="archive", rule=None):
    """Let a newer model answer for the study's present images; return the deliveries that this makes."""
    bench.use(analyzer=FakeAnalyzer(*answer, version=NEWER), rule=rule or ReportRule())
    with bench.database.write() as session:
        digest = current_digest(session, 1)
        job = add_job(session, 1, digest=digest, model_version=NEWER, lane=lane, now=MORNING)
    return bench.run(job)


def test_an_answer_that_the_pacs_was_told_already_makes_no_report_and_says_so(bench):
    assert again(bench, [ABSENT]) == ()

    assert len(bench.all(Report)) == 1
    assert bench.all(Job)[-1].outcome == "absent"
    assert (bench.all(Event)[-1].kind, bench.all(Event)[-1].detail["reason"]) == (
        "report_withheld",
        "the earlier report says the same",
    )


def test_another_outcome_makes_a_report_that_names_the_one_before(bench):
    assert len(again(bench, [PRESENT])) == 2

    first, later = bench.all(Report)
    assert later.predecessor_sop_instance_uid == first.sop_instance_uid


def test_the_live_lane_reports_whatever_was_said_before(bench):
    assert len(again(bench, [ABSENT], lane="live")) == 2


def test_other_images_make_a_report_though_the_outcome_is_the_same(bench):
    with bench.database.write() as session:
        an_instance(session, session.get_one(Study, 1), 2)
        bench.store.add("instances/2.dcm")

    assert len(again(bench, [ABSENT, ABSENT])) == 2


def test_a_report_that_one_destination_refused_is_followed_by_one_that_names_it(bench):
    with bench.database.write() as session:
        session.execute(update(Delivery).where(Delivery.destination == "viewer").values(state="failed"))

    assert len(again(bench, [ABSENT])) == 2
    first, later = bench.all(Report)
    assert later.predecessor_sop_instance_uid == first.sop_instance_uid


def test_a_report_that_every_destination_refused_is_nobodys_predecessor(bench):
    deliveries_become(bench, "failed")

    assert len(again(bench, [ABSENT])) == 2
    assert bench.all(Report)[-1].predecessor_sop_instance_uid is None


def test_a_site_may_want_no_report_of_archive_work(bench):
    assert again(bench, [PRESENT], rule=ReportRule(archive="never")) == ()
    assert "BONEWATCH_ARCHIVE_REPORTS" in bench.all(Event)[-1].detail["reason"]


def test_a_site_may_want_every_report_of_archive_work(bench):
    assert len(again(bench, [ABSENT], rule=ReportRule(archive="always"))) == 2


def test_an_outcome_that_gets_no_report_anyway_is_not_called_withheld(bench):
    bench.use(read_frames=FakeFrames(**{"1": [PixelDataTruncated("cut off")]}))

    assert again(bench, [PRESENT], rule=ReportRule(failed=False, archive="never")) == ()
    assert bench.all(Job)[-1].outcome == "failed"
    assert "report_withheld" not in {each.kind for each in bench.all(Event)}
