"""Which images get pictures, and that a picture never costs the report that it goes with."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from dicom_io.errors import PeerRefused, ReportError
from dicom_io.pixels.frames import DisplayedFrame, read_displayed, read_frames
from dicom_io.report.structured_report import BuiltObject as Built
from dicom_io.report.structured_report import build_report
from dicom_io.types import Destination, Outcome, ReportedImage, ReportReference
from models.types import ImageError
from tests.builders import build_dx, ramp, write_part10
from tests.databases import a_delivery, a_job, a_study
from tests.fakes_worker import PRESENT, SC_CLASS, FakeAnalyzer, FakeQueue, Script, commits
from tests.reporting import BOXES, content_of
from tests.unit.worker.delivery.test_delivery import Bench as DeliveryBench
from tests.unit.worker.study.test_pipeline import Bench as PipelineBench
from worker.db.tables import Companion, Delivery, Job, Report, Study
from worker.errors import LeaseLost
from worker.operate import retries
from worker.operate.results import results
from worker.operate.status import snapshot
from worker.settings.delivery import DeliverySettings
from worker.storage import file_removal
from worker.study import companions
from worker.study.companions import (
    MOST_FRAMES,
    BuiltCompanion,
    CompanionRule,
    Pictures,
    build_companions,
    chosen_images,
)
from worker.study.pipeline import ReportRule
from worker.ui.layers import CHOICES, DEFAULT

FINDINGS = CompanionRule("findings", presentation_state=True)
ALWAYS = CompanionRule("always", presentation_state=True)
PRESENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.11.1"


def an_answer(outcome=Outcome.PRESENT, frame=1, name="a", boxes=1, probability=0.9) -> ReportedImage:
    boxes = boxes if outcome is Outcome.PRESENT else 0
    return ReportedImage(Path(name), frame, outcome, probability, BOXES[:boxes])


def cold(pixels):
    return np.zeros(pixels.shape, np.float32)


def test_by_default_no_image_gets_a_picture():
    assert chosen_images([an_answer()], CompanionRule()) == []


def test_the_heat_map_is_off_unless_a_site_asks_for_it():
    assert CompanionRule().heat_map is False
    assert DeliverySettings.model_fields["heat_map"].default is False
    assert [name for name, layers in CHOICES.items() if layers.heat] == ["Heat map", "Both"]
    assert DEFAULT == "Boxes"


def test_findings_leaves_out_images_that_are_absent_and_those_without_an_answer():
    images = [an_answer(Outcome.ABSENT), an_answer(Outcome.INCONCLUSIVE), an_answer(), an_answer(Outcome.FAILED)]
    assert chosen_images(images, FINDINGS) == images[1:3]


def test_always_shows_an_absent_image_once_and_never_beside_a_finding_in_it():
    absent = [an_answer(Outcome.ABSENT, frame, "b") for frame in (1, 2, 3)]
    mixed = [an_answer(Outcome.ABSENT, 1), an_answer(frame=2), an_answer(Outcome.ABSENT, 3)]
    assert chosen_images([*mixed, *absent], ALWAYS) == [mixed[1], absent[0]]


def test_of_many_frames_the_gravest_get_pictures_in_the_order_of_the_report():
    images = [an_answer(frame=n, probability=n / 100) for n in range(1, MOST_FRAMES + 5)]
    assert chosen_images(images, FINDINGS) == images[4:]


def test_boxes_get_a_presentation_state_and_an_image_without_gets_none(tmp_path):
    paths = [write_part10(build_dx(pixels=ramp(40, 60), instance=name), tmp_path / f"{name}.dcm") for name in "ab"]
    images = [
        ReportedImage(paths[0], 1, Outcome.PRESENT, 0.9, BOXES[:1]),
        ReportedImage(paths[1], 1, Outcome.INCONCLUSIVE, 0.4),
    ]
    content = content_of(*images)
    made = list(build_companions(content, build_report(content).reference, Pictures(FINDINGS, cold)))
    assert [(each.kind, each.number, each.reason) for each in made] == [
        ("capture", 1, None),
        ("presentation", 1, None),
        ("capture", 2, None),
    ]


def test_a_heat_map_is_asked_for_once_an_image_and_only_where_it_is_wanted(tmp_path):
    path = write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "a.dcm")
    content = content_of(ReportedImage(path, 1, Outcome.PRESENT, 0.9, BOXES[:1]))
    asked = []

    def explain(pixels):
        asked.append(pixels.shape)
        return cold(pixels)

    for rule in (FINDINGS, replace(FINDINGS, heat_map=True), replace(FINDINGS, marked_image="never", heat_map=True)):
        list(build_companions(content, build_report(content).reference, Pictures(rule, explain)))
    assert asked == [(40, 60)]


@pytest.mark.parametrize("error", [ImageError("too small for the map"), ValueError("a secret of a header")])
def test_a_picture_that_cannot_be_made_has_its_reason_without_foreign_words_and_costs_no_other(tmp_path, error):
    path = write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "a.dcm")
    content = content_of(ReportedImage(path, 1, Outcome.PRESENT, 0.9, BOXES[:1]))

    def explain(_pixels):
        raise error

    rule = replace(FINDINGS, heat_map=True)
    capture, state = build_companions(content, build_report(content).reference, Pictures(rule, explain))
    assert capture.reason in ("too small for the map", "unexpected error (ValueError)")
    assert state.report is not None


def test_a_missing_file_is_a_reason_too(tmp_path):
    path = write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "a.dcm")
    content = content_of(ReportedImage(path, 1, Outcome.PRESENT, 0.9, BOXES[:1]))
    report = build_report(content).reference
    path.unlink()
    (capture, _) = build_companions(content, report, Pictures(FINDINGS, cold))
    assert capture.reason == "the image's file cannot be read: No such file or directory"


def two_pictures(content, report, _pictures):
    for kind, sop_class in (("capture", SC_CLASS), ("presentation", PRESENTATION_CLASS)):
        reference = ReportReference(sop_class, f"{report.sop_instance_uid[:40]}.{len(kind)}", "2.25.8", "2.25.1")
        yield BuiltCompanion(kind, 1, Built(reference, kind.encode()))
    yield BuiltCompanion("capture", 2, reason="the decoder gave up")


@pytest.fixture
def analysis(tmp_path):
    bench = PipelineBench(tmp_path)
    bench.use(analyzer=FakeAnalyzer(PRESENT), build_companions=two_pictures)
    yield bench
    bench.database.close()


def test_a_report_and_its_companions_are_written_and_delivered_together(analysis):
    deliveries = analysis.run(analysis.job())
    with analysis.database.read() as session:
        rows = session.scalars(select(Companion).order_by(Companion.id)).all()
        kinds = [(row.kind, row.number, row.state, row.reason, len(row.deliveries)) for row in rows]
        built = [row.path for row in rows if row.path]
    assert kinds == [
        ("capture", 1, "built", None, 2),
        ("presentation", 1, "built", None, 2),
        ("capture", 2, "failed", "the decoder gave up", 0),
    ]
    assert len(deliveries) == 6
    assert all(analysis.store.path(path).is_file() for path in built)


def test_the_reason_of_a_picture_that_failed_is_in_the_status(analysis):
    analysis.run(analysis.job())
    found = snapshot(analysis.database, FakeQueue()).failures
    assert [(each.kind, each.reason) for each in found] == [("marked image", "the decoder gave up")]


def test_a_report_that_is_withheld_has_no_companions_either(analysis):
    analysis.use(rule=ReportRule(archive="never"))
    job = analysis.job()
    with analysis.database.write() as session:
        session.get_one(Job, job).lane = "archive"
    assert analysis.run(job) == ()
    with analysis.database.read() as session:
        assert session.scalars(select(Companion)).all() == []


def test_a_report_that_cannot_be_built_has_no_companions_either(analysis):
    def broken(_content):
        raise ReportError("no")

    analysis.use(build_report=broken)
    assert analysis.run(analysis.job()) == ()


def test_a_lease_that_is_lost_between_two_pictures_writes_nothing(analysis):
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 3:
            raise LeaseLost("somebody else's")

    with pytest.raises(LeaseLost):
        analysis.run(analysis.job(), check)
    with analysis.database.read() as session:
        assert session.scalars(select(Report)).all() == []


@pytest.fixture
def way(tmp_path):
    """Return a bench with delivery 1 of a report and delivery 2 of its marked image."""
    bench = DeliveryBench(tmp_path)
    bench.add()
    with bench.database.write() as session:
        report = session.get_one(Report, 1)
        bench.store.add("reports/2.25.8001.dcm")
        picture = Companion(
            report=report, kind="capture", number=1, state="built", path="reports/2.25.8001.dcm",
            sop_instance_uid="2.25.8001", sop_class_uid=SC_CLASS, series_instance_uid="2.25.8",
        )  # fmt: skip
        session.add(Delivery(companion=picture, destination="pacs", sop_instance_uid="2.25.8001"))
    yield bench
    bench.database.close()


def test_a_marked_image_is_sent_and_committed_like_the_report(way):
    way.pacs.answers = Script([commits])
    way.deliver(1)
    row = way.row(2)
    assert (row.state, row.confirmed_by, row.sop_class_uid) == ("committed", "commitment", SC_CLASS)
    assert way.pacs.sent == ["2.25.9001", "2.25.8001"]


def test_a_pacs_that_refuses_the_class_of_a_picture_has_the_report_all_the_same(way):
    def only_reports(_destination: Destination, path: Path) -> None:
        if path.stem == "2.25.8001":
            raise PeerRefused("pacs (PACS) does not accept Secondary Capture Image Storage")

    way.pacs.answers, way.pacs.sends = Script([commits]), Script([only_reports])
    assert way.deliver(1).state == "committed"
    picture = way.row(2)
    assert (picture.state, picture.reason) == (
        "failed", "pacs (PACS) does not accept Secondary Capture Image Storage",
    )  # fmt: skip
    found = snapshot(way.database, FakeQueue()).failures
    assert [each.kind for each in found] == ["delivery of marked image"]


def test_the_state_of_the_report_in_the_results_is_its_own(way):
    way.pacs.answers = Script([commits])
    way.pacs.sends = Script([None, PeerRefused("no such class")])
    way.deliver(1)
    (row,) = results(way.database)
    assert row.report_state == "committed"
    assert row.committed_at is not None


def test_a_picture_without_its_file_fails_in_its_own_words(way):
    way.store.path("reports/2.25.8001.dcm").unlink()
    assert way.deliver(2).reason == "the marked image's file is missing from the store"


def test_a_refused_picture_is_revived_with_the_reports(way):
    way.pacs.sends = Script([PeerRefused("no such class")])
    way.deliver(2)
    assert retries.revive_deliveries(way.database) == 2
    assert way.row(2).state == "pending"


@pytest.mark.parametrize(
    ("state", "settled"), [("pending", False), ("sent", False), ("failed", True), ("committed", True)]
)
def test_a_purge_waits_for_a_picture_on_its_way_and_not_for_one_that_was_refused(way, state, settled):
    with way.database.write() as session:
        session.get_one(Delivery, 1).state = "committed"
        session.get_one(Delivery, 2).state = state
    with way.database.read() as session:
        for condition in (file_removal.settled(), file_removal.ended()):
            assert bool(session.scalars(select(Study.id).where(condition)).all()) is settled


def test_a_delivery_is_of_one_object(way):
    with pytest.raises(DBAPIError, match="one_object"), way.database.write() as session:
        a_delivery(session, a_job(session, a_study(session, 9)), companion_id=1)


def test_a_frame_that_is_read_for_a_picture_is_the_one_that_was_analysed(tmp_path):
    frames = np.stack([ramp(30, 40), ramp(30, 40)[::-1]])
    path = write_part10(build_dx(pixels=frames), tmp_path / "a.dcm")
    shown = read_displayed(path, 2)
    assert shown.number == 2
    assert shown.pixels[0, 0] > shown.pixels[-1, -1]


def a_study_of_one(bench, folder, **rule):
    """Let a bench analyse one real image; returns its job, and a list of the frames that were decoded."""
    decoded = []

    def reading(path):
        for frame in read_frames(path):
            decoded.append(frame.number)
            yield frame

    bench.use(
        read_frames=reading,
        build_report=build_report,
        build_companions=build_companions,
        companions=CompanionRule("always", presentation_state=True, **rule),
    )
    job = bench.job(number_of_frames=2)
    frames = np.stack([ramp(40, 60), ramp(40, 60)[::-1]])
    write_part10(build_dx(pixels=frames), bench.store.path("instances/1.dcm"))
    return job, decoded


def test_pictures_are_made_of_the_frames_that_were_analysed_and_none_is_decoded_twice(analysis, tmp_path, monkeypatch):
    job, decoded = a_study_of_one(analysis, tmp_path)
    analysis.use(analyzer=FakeAnalyzer(PRESENT, PRESENT))
    monkeypatch.setattr(companions, "read_displayed", None)
    analysis.run(job)
    assert decoded == [1, 2]
    assert [(row.kind, row.reason) for row in analysis.all(Companion)] == [
        ("capture", None), ("presentation", None), ("capture", None), ("presentation", None),
    ]  # fmt: skip


def test_pictures_of_kept_frames_are_the_same_to_the_byte_as_of_frames_read_again(tmp_path):
    path = write_part10(build_dx(pixels=np.stack([ramp(40, 60), ramp(40, 60)[::-1]])), tmp_path / "a.dcm")
    content = content_of(*(ReportedImage(path, number, Outcome.PRESENT, 0.9, BOXES[:1]) for number in (1, 2)))
    rule = replace(ALWAYS, heat_map=True)
    kept, read_again = Pictures(rule, np.square), Pictures(rule, np.square)
    for image, frame in zip(content.images, read_frames(path), strict=True):
        kept.see(image, frame)
    report = build_report(content).reference
    of_kept, of_read = (list(build_companions(content, report, each)) for each in (kept, read_again))
    assert [each.reason for each in of_kept] == [None] * 4
    assert of_kept == of_read


def test_the_heat_map_is_asked_for_right_after_the_frame_was_analysed(analysis, tmp_path):
    job, _ = a_study_of_one(analysis, tmp_path, heat_map=True)
    asked = []

    class Model(FakeAnalyzer):
        def analyze(self, pixels):
            asked.append(("analyze", id(pixels)))
            return super().analyze(pixels)

        def explain(self, pixels):
            asked.append(("explain", id(pixels)))
            return cold(pixels)

    analysis.use(analyzer=Model(PRESENT))
    analysis.run(job)
    assert [what for what, _ in asked] == ["analyze", "explain", "analyze", "explain"]
    assert [asked[0][1], asked[2][1]] == [asked[1][1], asked[3][1]]


def test_what_is_kept_on_the_way_is_what_is_chosen_at_the_end():
    outcomes = (Outcome.PRESENT, Outcome.INCONCLUSIVE, Outcome.ABSENT, Outcome.FAILED)
    dice = random.Random(3)
    for _ in range(200):
        images = [
            an_answer(dice.choice(outcomes), frame, dice.choice("abc"), probability=dice.random())
            for frame in range(1, dice.randint(2, 30))
        ]
        for rule in (FINDINGS, ALWAYS):
            pictures = Pictures(rule)
            frames = {image: DisplayedFrame(image.frame_number, np.zeros((2, 2), np.float32)) for image in images}
            for image in images:
                pictures.see(image, frames[image])
            assert all(pictures.shown(image) is frames[image] for image in chosen_images(images, rule))
