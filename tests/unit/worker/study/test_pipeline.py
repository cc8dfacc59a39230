from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from pydicom.errors import BytesLengthException
from sqlalchemy import func, select

from dicom_io.errors import HeaderError, PixelDataTruncated, PixelsUndecodable, ReportError, StoreError
from dicom_io.pixels.frames import DisplayedFrame
from models.types import UNLIKE, BundleError, Decision, ImageAnalysis, ImageError
from tests.databases import MORNING, Clock, a_study, an_instance, sqlite_database
from tests.fakes_worker import (
    ABSENT,
    FRAME,
    INCONCLUSIVE,
    PRESENT,
    VERSION,
    FakeAnalyzer,
    FakeFrames,
    FakeStore,
    fake_report,
)
from worker.db.tables import Delivery, Event, Finding, ImageResult, Instance, Job, Report, Study
from worker.errors import EnvironmentUnfit, LeaseLost
from worker.study import jobs
from worker.study.completion import REPLACED
from worker.study.pipeline import Collaborators, ReportRule, analyse_study
from worker.study.plan import MIXED_PATIENTS
from worker.study.studies import CAME_BACK, add_job, current_digest


def never() -> None:
    """Stand for a lease that is never lost."""


class Bench:
    """A database, fakes, and a way to run a job."""

    def __init__(self, folder):
        self.database = sqlite_database(folder)
        self.clock = Clock()
        self.store = FakeStore(folder / "store")
        self.contents = []
        self.parts = Collaborators(
            database=self.database,
            store=self.store,
            read_frames=FakeFrames(),
            analyzer=FakeAnalyzer(),
            build_report=self._build,
            manufacturer="bonewatch",
            destinations=("pacs", "viewer"),
            rule=ReportRule(),
            clock=self.clock,
        )

    def _build(self, content):
        self.contents.append(content)
        return fake_report(content)

    def use(self, **parts):
        self.parts = replace(self.parts, **parts)

    def job(self, images=1, number=1, **overrides) -> int:
        with self.database.write() as session:
            study = session.scalar(select(Study).where(Study.id == number)) or a_study(session, number)
            for image in range(1, images + 1):
                an_instance(session, study, image, **overrides)
                self.store.add(f"instances/{image}.dcm")
            return self.plan(session, study.id)

    def plan(self, session, study_id) -> int:
        digest = current_digest(session, study_id)
        return add_job(session, study_id, digest=digest, model_version=VERSION, lane="live", now=MORNING)

    def run(self, job_id, check=never):
        held = jobs.claim(self.database, job_id, worker="w", lease_seconds=60, now=self.clock())
        assert held is not None
        return analyse_study(held, self.parts, check)

    def all(self, table):
        with self.database.read() as session:
            rows = list(session.scalars(select(table).order_by(table.id)))
            session.expunge_all()
            return rows

    def count(self, table) -> int:
        with self.database.read() as session:
            return session.scalar(select(func.count()).select_from(table))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def test_an_image_whose_file_was_deleted_is_failed_with_the_reason_and_never_absent(bench):
    job_id = bench.job(images=2)
    with bench.database.write() as session:
        session.get_one(Instance, 1).file_deleted_reason = "purged"
    bench.use(analyzer=FakeAnalyzer(ABSENT))

    bench.run(job_id)

    (job,), (first, second) = map(bench.all, (Job, ImageResult))
    assert (job.outcome, first.outcome, first.reason_code, second.outcome) == (
        "failed",
        "failed",
        "file_deleted",
        "absent",
    )
    assert "send the study again" in first.reason


def test_a_positive_study_is_written_with_its_box_its_report_and_a_delivery_for_each_destination(bench):
    bench.use(analyzer=FakeAnalyzer(PRESENT, ABSENT))

    deliveries = bench.run(bench.job(images=2))

    (job,), (first, second), (box,), (report,) = map(bench.all, (Job, ImageResult, Finding, Report))
    assert (job.state, job.outcome, job.probability) == ("done", "present", 0.9)
    assert job.reason == "possible fracture in 1 of 2 images"
    assert [(each.outcome, each.frame_number) for each in (first, second)] == [("present", 1), ("absent", 1)]
    assert (box.image_result_id, box.x1, box.y1, box.x2, box.y2, box.score) == (first.id, 1.0, 2.0, 3.0, 4.0, 0.8)
    assert (report.state, report.path) == ("built", f"reports/{report.sop_instance_uid}.dcm")
    assert [(each.destination, each.state) for each in bench.all(Delivery)] == [
        ("pacs", "pending"),
        ("viewer", "pending"),
    ]
    assert deliveries == tuple(each.id for each in bench.all(Delivery))
    assert [each.kind for each in bench.all(Event)] == ["queued", "claimed", "analysed", "report_built"]


def test_every_frame_has_a_result_of_its_own(bench):
    frames = [DisplayedFrame(number, np.zeros((4, 4), np.float32)) for number in (1, 2, 3)]
    bench.use(read_frames=FakeFrames(**{"1": frames}), analyzer=FakeAnalyzer(ABSENT, INCONCLUSIVE, ABSENT))

    bench.run(bench.job(number_of_frames=3))

    assert [(each.frame_number, each.outcome) for each in bench.all(ImageResult)] == [
        (1, "absent"),
        (2, "inconclusive"),
        (3, "absent"),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PixelsUndecodable("JPEG Extended cannot be decoded"), "pixels_undecodable"),
        (PixelDataTruncated("the pixel data are cut off"), "pixel_data_truncated"),
        (HeaderError("not a DICOM file"), "header"),
    ],
)
def test_an_image_that_cannot_be_read_is_failed_with_its_reason_and_the_others_go_on(bench, error, code):
    bench.use(read_frames=FakeFrames(**{"1": [error]}))

    bench.run(bench.job(images=2))

    first, second = bench.all(ImageResult)
    assert (first.outcome, first.reason_code, first.reason, first.probability) == ("failed", code, str(error), None)
    assert second.outcome == "absent"
    (job,) = bench.all(Job)
    assert (job.state, job.outcome, job.probability) == ("done", "failed", None)
    assert str(error) in job.reason
    assert [each.outcome for each in bench.contents[0].images] == ["failed", "absent"]


def test_an_image_that_the_model_refuses_is_failed_and_never_absent(bench):
    bench.use(analyzer=FakeAnalyzer(ImageError("the image has one grey value only"), ABSENT))

    bench.run(bench.job(images=2))

    assert [(each.outcome, each.reason_code) for each in bench.all(ImageResult)] == [
        ("failed", "image"),
        ("absent", None),
    ]


def test_an_image_unlike_the_training_images_is_inconclusive_with_the_reason_in_sql_and_report(bench):
    unlike = replace(INCONCLUSIVE, probability=0.01, unlikeness=1.5)
    bench.use(analyzer=FakeAnalyzer(unlike, replace(ABSENT, unlikeness=0.7)))

    bench.run(bench.job(images=2))

    (job,), (first, second) = map(bench.all, (Job, ImageResult))
    assert (first.outcome, first.reason_code, first.reason, first.unlikeness) == ("inconclusive", "unlike", UNLIKE, 1.5)
    assert (second.outcome, second.reason_code, second.reason, second.unlikeness) == ("absent", None, None, 0.7)
    assert job.outcome == "inconclusive"
    assert f"1 of 2 images cannot be answered: {UNLIKE}" in job.reason
    assert [each.reason for each in bench.contents[0].images] == [UNLIKE, None]


def test_frames_after_one_that_cannot_be_read_are_said_not_to_be_analysed(bench):
    bench.use(read_frames=FakeFrames(**{"1": [FRAME, PixelDataTruncated("cut off")]}))

    bench.run(bench.job(number_of_frames=4))

    first, second = bench.all(ImageResult)
    assert (first.frame_number, first.outcome) == (1, "absent")
    assert (second.frame_number, second.outcome) == (2, "failed")
    assert second.reason == "cut off; frames 2 to 4 were not analysed"


@pytest.mark.parametrize("error", [BytesLengthException("SECRET"), RecursionError("SECRET"), AssertionError("SECRET")])
def test_what_nobody_foresaw_in_one_image_ends_that_image_alone(bench, error):
    bench.use(read_frames=FakeFrames(**{"1": [error]}), analyzer=FakeAnalyzer(PRESENT))

    bench.run(bench.job(images=2))

    (job,), (first, second), (report,) = map(bench.all, (Job, ImageResult, Report))
    assert (job.state, job.outcome, first.outcome, second.outcome) == ("done", "present", "failed", "present")
    assert first.reason == f"unexpected error ({type(error).__name__})"
    assert "1 of 2 images could not be analysed" in job.reason
    assert report.state == "built"


def test_a_disk_that_cannot_be_read_is_no_fault_of_the_image(bench):
    bench.use(read_frames=FakeFrames(**{"1": [OSError(5, "Input/output error")]}))

    with pytest.raises(OSError, match="Input/output"):
        bench.run(bench.job())


def test_what_was_left_aside_of_an_image_is_in_sql(bench):
    warned = replace(FRAME, warnings=("Window Width 1 was left aside", "Rescale Slope is 0", "Rescale Slope is 0"))
    bench.use(read_frames=FakeFrames(**{"1": [warned]}))

    bench.run(bench.job(images=2))

    assert [each.warning for each in bench.all(ImageResult)] == [
        "Window Width 1 was left aside; Rescale Slope is 0",
        None,
    ]


def test_several_frames_of_which_none_could_be_read_fail_as_a_whole(bench):
    bench.use(read_frames=FakeFrames(**{"1": [PixelDataTruncated("cut off")]}))

    bench.run(bench.job(number_of_frames=4))

    assert [(each.frame_number, each.outcome) for each in bench.all(ImageResult)] == [(0, "failed")]


def test_an_image_without_frames_is_failed(bench):
    bench.use(read_frames=FakeFrames(**{"1": []}))

    bench.run(bench.job())

    assert [(each.outcome, each.reason_code) for each in bench.all(ImageResult)] == [("failed", "pixel_data_missing")]


def test_a_missing_file_fails_its_image_alone(bench):
    job_id = bench.job(images=2)
    bench.store.path("instances/1.dcm").unlink()

    bench.run(job_id)

    assert [(each.outcome, each.reason_code) for each in bench.all(ImageResult)] == [
        ("failed", "file_missing"),
        ("absent", None),
    ]


def test_a_store_that_is_not_mounted_is_not_the_studys_fault(bench, tmp_path):
    job_id = bench.job()
    bench.use(store=FakeStore(tmp_path / "elsewhere"))

    with pytest.raises(EnvironmentUnfit, match="mounted"):
        bench.run(job_id)

    assert bench.count(ImageResult) == 0


def test_a_study_with_nothing_in_scope_is_done_without_a_report(bench):
    bench.run(bench.job(images=2, out_of_scope_reason="modality CT"))

    (job,) = bench.all(Job)
    assert (job.state, job.outcome, job.reason) == ("done", "out_of_scope", "modality CT")
    assert bench.count(Report) == bench.count(ImageResult) == 0


def test_a_site_may_want_reports_of_what_is_out_of_scope(bench):
    bench.use(rule=ReportRule(out_of_scope=True))

    bench.run(bench.job(out_of_scope_reason="modality CT"))

    (image,) = bench.contents[0].images
    assert (image.outcome, image.reason, image.frame_number) == ("out_of_scope", "modality CT", 0)


def test_a_report_of_ours_that_came_back_is_no_image_of_the_next_report(bench):
    bench.use(rule=ReportRule(out_of_scope=True))
    bench.run(bench.job(out_of_scope_reason="modality CT"))
    with bench.database.write() as session:
        study = session.scalars(select(Study)).one()
        an_instance(session, study, 9, modality="SR", out_of_scope_reason=CAME_BACK)
        again = bench.plan(session, study.id)

    bench.run(again)

    assert bench.all(Job)[-1].reason == "modality CT"
    assert [image.reason for image in bench.contents[-1].images] == ["modality CT"]


def test_a_site_may_want_no_reports_of_what_failed(bench):
    bench.use(rule=ReportRule(failed=False), read_frames=FakeFrames(**{"1": [PixelDataTruncated("cut off")]}))

    bench.run(bench.job())

    assert bench.count(Report) == 0
    assert bench.all(Job)[0].outcome == "failed"


def test_a_study_of_two_patients_is_failed_and_nothing_is_analysed_or_reported(bench):
    job_id = bench.job(images=2)
    with bench.database.write() as session:
        session.get_one(Instance, 2).patient_id = "P-2"

    bench.run(job_id)

    (job,) = bench.all(Job)
    assert (job.outcome, job.reason) == ("failed", MIXED_PATIENTS)
    assert bench.parts.analyzer.calls == bench.count(Report) == bench.count(Delivery) == 0


def test_an_empty_patient_id_names_nobody_else(bench):
    job_id = bench.job(images=2)
    with bench.database.write() as session:
        session.get_one(Instance, 2).patient_id = None

    bench.run(job_id)

    assert bench.all(Job)[0].outcome == "absent"


def test_a_job_whose_images_are_gone_is_failed(bench):
    job_id = bench.job()
    with bench.database.write() as session:
        session.get_one(Instance, 1).digest = "f" * 64

    bench.run(job_id)

    assert (bench.all(Job)[0].outcome, bench.all(Job)[0].reason) == ("failed", REPLACED)


def test_a_report_that_cannot_be_built_is_recorded_and_the_results_are_kept(bench):
    def refuse(_):
        raise ReportError("the sources are of two studies")

    bench.use(build_report=refuse, analyzer=FakeAnalyzer(PRESENT))

    assert bench.run(bench.job()) == ()

    (report,) = bench.all(Report)
    assert (report.state, report.reason, report.path) == ("failed", "the sources are of two studies", None)
    assert bench.all(Job)[0].outcome == "present"
    assert bench.count(Finding) == 1
    assert bench.all(Event)[-1].kind == "report_failed"


def test_a_worker_with_another_model_does_not_answer_for_this_one(bench):
    bench.use(analyzer=FakeAnalyzer(version="other"))

    with pytest.raises(EnvironmentUnfit, match="install the same bundle"):
        bench.run(bench.job())


def test_a_late_image_makes_a_report_that_names_the_one_before(bench):
    bench.run(bench.job())
    with bench.database.write() as session:
        an_instance(session, session.get_one(Study, 1), 2)
        bench.store.add("instances/2.dcm")
        second = bench.plan(session, 1)
    bench.run(second)

    first, later = bench.all(Report)
    assert later.predecessor_sop_instance_uid == first.sop_instance_uid
    assert bench.contents[1].predecessor.sop_instance_uid == first.sop_instance_uid
    assert first.sop_instance_uid != later.sop_instance_uid


def test_a_lost_lease_stops_the_work_between_images_and_leaves_nothing(bench):
    def lost():
        raise LeaseLost("somebody else's")

    job_id = bench.job(images=3)
    with pytest.raises(LeaseLost):
        bench.run(job_id, lost)

    assert bench.parts.analyzer.calls == 1
    assert bench.count(ImageResult) == bench.count(Report) == 0


class Crash(BaseException):
    """As good as `kill -9`: nobody catches it."""


def crash(*_arguments, **_names):
    raise Crash


CRASHES = {
    "while frames are read": lambda bench: bench.use(read_frames=FakeFrames(**{"2": [Crash()]})),
    "while the model works": lambda bench: bench.use(analyzer=FakeAnalyzer(ABSENT, Crash())),
    "while the report is built": lambda bench: bench.use(build_report=crash),
    "while the report is stored": lambda bench: setattr(bench.store, "fail", crash),
    "before the transaction": lambda bench: bench.use(clock=crash),
    "in the transaction": lambda bench: bench.use(destinations=("pacs", "pacs")),
    "after the transaction": lambda _: None,
}


@pytest.mark.parametrize("when", CRASHES)
def test_a_crash_anywhere_and_doing_it_again_gives_one_result_one_report_and_one_delivery(bench, when):
    bench.use(destinations=("pacs",))
    sound, job_id = bench.parts, bench.job(images=2)
    CRASHES[when](bench)
    if when == "after the transaction":
        bench.run(job_id)
    else:
        with pytest.raises((Crash, Exception)) as raised:
            bench.run(job_id)
        assert not isinstance(raised.value, AssertionError)
        assert bench.count(ImageResult) == bench.count(Report) == bench.count(Delivery) == 0

    bench.parts, bench.store.fail = sound, lambda: None
    bench.clock.advance(3600)
    jobs.release_expired(bench.database, maximum_attempts=3, now=bench.clock(), limit=10)
    again = jobs.claim(bench.database, job_id, worker="w", lease_seconds=60, now=bench.clock())
    if again is not None:
        analyse_study(again, bench.parts, never)

    assert (bench.count(ImageResult), bench.count(Report), bench.count(Delivery)) == (2, 1, 1)
    assert [job.state for job in bench.all(Job)] == ["done"]
    assert len(bench.store.reports) == 1


def test_a_report_built_again_after_a_crash_is_the_same_to_the_byte(bench):
    job_id = bench.job()
    bench.use(clock=crash)
    with pytest.raises(Crash):
        bench.run(job_id)
    (before,) = bench.store.reports.values()

    bench.clock.advance(3600)
    bench.use(clock=bench.clock)
    jobs.release_expired(bench.database, maximum_attempts=3, now=bench.clock(), limit=10)
    bench.run(job_id)

    assert list(bench.store.reports.values()) == [before]
    assert bench.contents[0].content_datetime == MORNING


def test_a_retry_makes_another_report_and_leaves_the_first_one_alone(bench):
    bench.run(bench.job())
    with bench.database.write() as session:
        again = bench.plan(session, 1)
    bench.run(again)

    assert len(bench.store.reports) == 2
    assert [job.revision for job in bench.all(Job)] == [1, 2]


def test_a_full_disk_is_for_the_caller_to_handle(bench):
    def full():
        raise StoreError("no space left")

    bench.store.fail = full
    with pytest.raises(StoreError):
        bench.run(bench.job())

    assert bench.count(Report) == bench.count(ImageResult) == 0


def test_work_that_took_longer_than_its_lease_counts_when_nobody_else_took_it(bench):
    job_id = bench.job()
    held = jobs.claim(bench.database, job_id, worker="w", lease_seconds=60, now=bench.clock())
    bench.clock.now = MORNING + timedelta(hours=2)

    analyse_study(held, bench.parts, never)

    assert bench.all(Job)[0].finished_at == MORNING + timedelta(hours=2)


@pytest.mark.parametrize("error", [ValueError("SECRET"), IndexError("SECRET"), ZeroDivisionError("SECRET")])
def test_what_nobody_foresaw_in_the_model_fails_that_image_alone(bench, error):
    bench.use(analyzer=FakeAnalyzer(error, PRESENT))

    bench.run(bench.job(images=2))

    (job,), (first, second) = map(bench.all, (Job, ImageResult))
    assert (first.outcome, first.reason) == ("failed", f"unexpected error ({type(error).__name__})")
    assert (job.outcome, second.outcome) == ("present", "present")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error"), BundleError("gone"), OSError(5, "disk")])
def test_a_fault_of_the_machine_is_no_answer_and_the_job_is_done_again(bench, error):
    bench.use(analyzer=FakeAnalyzer(ABSENT, error))

    with pytest.raises(type(error)):
        bench.run(bench.job(images=2))

    assert bench.count(ImageResult) == bench.count(Report) == 0


@pytest.mark.parametrize("probability", [float("nan"), -0.1, 1.1, float("inf")])
@pytest.mark.parametrize("decision", list(Decision))
def test_an_answer_that_is_no_probability_is_failed_whatever_was_decided(bench, decision, probability):
    bench.use(analyzer=FakeAnalyzer(ImageAnalysis(probability, (), decision, 0.1)))

    bench.run(bench.job())

    (image,) = bench.all(ImageResult)
    assert (image.outcome, image.reason, image.probability) == ("failed", "the model's answer is no probability", None)


def test_frames_that_the_header_declares_and_nobody_saw_are_failed_and_never_left_out(bench):
    bench.use(read_frames=FakeFrames(**{"1": [FRAME]}))

    bench.run(bench.job(number_of_frames=3))

    first, second = bench.all(ImageResult)
    assert (first.outcome, second.frame_number, second.outcome) == ("absent", 2, "failed")
    assert second.reason == "the pixel data end early; frames 2 to 3 were not analysed"
    assert bench.all(Job)[0].outcome == "failed"
