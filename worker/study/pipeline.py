"""From a claimed job to its result: frames -> analysis -> outcome -> report -> one transaction.

A straight function. Everything it talks to is an argument (`Collaborators`, built in `worker.queue.bootstrap`), so that
each step can be made to fail in a test. Nothing outside SQL and the store changes, the report's file has a name that
derives from the job's identity, and SQL changes in one transaction at the end: whatever happens on the way, running
it again gives the same result, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_io.errors import PathOutside, PixelError
from dicom_io.pixels.frames import DisplayedFrame
from dicom_io.report.structured_report import ReportContent
from dicom_io.types import Algorithm, Outcome, ReportReference
from models.types import ImageAnalysis, ImageError
from worker.db.database import Database
from worker.db.tables import ANSWER
from worker.errors import EnvironmentUnfit
from worker.study.analysis import FrameSource, analyse_frames
from worker.study.companions import BuiltCompanion, CompanionRule, Pictures, build_companions
from worker.study.completion import JobResult, ReportOutcome, finish
from worker.study.jobs import Claim
from worker.study.outcomes import ImageOutcome, failed, reported, study_outcome
from worker.study.plan import Plan, PlannedImage, load_plan
from worker.study.queues import ARCHIVE
from worker.study.reports import UNMOUNTED, BuildReport, ReportStore, make_report, report_content

log = structlog.get_logger(__name__)


class FileDeleted(PixelError):
    """The image was deleted here after its report."""

    code = "file_deleted"


class FileMissing(PixelError):
    """The image's file is missing from the store."""

    code = "file_missing"


BuildCompanions = Callable[[ReportContent, ReportReference, Pictures], Iterator[BuiltCompanion]]
ArchiveReports = Literal["always", "changed", "never"]


class StudyAnalyzer(Protocol):
    """The model (`models.analyzer.Analyzer`)."""

    @property
    def name(self) -> str:
        """The bundle's name."""

    @property
    def version(self) -> str:
        """The bundle's version."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The operating points and thresholds, a line each."""

    def analyze(self, pixels: NDArray[np.float32]) -> ImageAnalysis:
        """Analyse one frame."""

    def explain(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return where the classifier's answer comes from: 0..1, of the frame's shape."""

    @property
    def batch_size(self) -> int:
        """How many images are worth giving at once."""

    def analyze_many(self, images: list[NDArray[np.float32]]) -> Sequence[ImageAnalysis | ImageError]:
        """Analyse several frames; the answer for one that cannot be analysed is the reason."""


@dataclass(frozen=True, slots=True)
class ReportRule:
    """For which outcomes beside present, inconclusive and absent a report is made, and when archive work makes one."""

    failed: bool = True
    out_of_scope: bool = False
    archive: ArchiveReports = "changed"

    def wants(self, outcome: Outcome) -> bool:
        """Say whether a study of this outcome gets a report."""
        if outcome is Outcome.FAILED:
            return self.failed
        return outcome is not Outcome.OUT_OF_SCOPE or self.out_of_scope

    def withholds(self, plan: Plan, outcome: Outcome) -> str | None:
        """Return why archive work makes no report of an outcome that gets one, or None."""
        if plan.lane != ARCHIVE or self.archive == "always":
            return None
        if self.archive == "never":
            return "archive work makes no reports here (BONEWATCH_ARCHIVE_REPORTS)"
        return "the earlier report says the same" if plan.reported is outcome else None


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What the pipeline works with."""

    database: Database
    store: ReportStore
    read_frames: Callable[[Path], Iterator[DisplayedFrame]]
    analyzer: StudyAnalyzer
    build_report: BuildReport
    manufacturer: str
    destinations: tuple[str, ...]
    rule: ReportRule
    clock: Callable[[], datetime]
    companions: CompanionRule = field(default_factory=CompanionRule)
    build_companions: BuildCompanions = build_companions


def analyse_study(held: Claim, parts: Collaborators, check_lease: Callable[[], None]) -> tuple[int, ...]:
    """Do the work of one claimed job.

    1. Read what the job is about; a study that must not be analysed ends here, failed with the reason.
    2. Analyse every frame of every image in scope; what cannot be read is failed with its reason, the others go on.
    3. Take the gravest outcome.
    4. Build the report and its companions where they are wanted, and keep their files; a model in shadow makes none.
    5. Write everything in one transaction, on condition that the job is still ours.

    Parameters
    ----------
    held : worker.study.jobs.Claim
        The right to do this.
    parts : Collaborators
        What it is done with.
    check_lease : callable
        Called between frames and before the report; raises LeaseLost when the job was given to somebody else.

    Returns
    -------
    tuple of int
        The deliveries to be made.

    Raises
    ------
    worker.errors.EnvironmentUnfit
        When this worker cannot analyse any study, or not this one's model version.
    worker.errors.LeaseLost
        When the job belongs to somebody else by now; nothing was written.
    dicom_io.errors.StoreError
        When the store cannot take the report; try again later.
    """
    started = time.perf_counter()
    plan = load_plan(parts.database, held)
    if plan.model_version != parts.analyzer.version:
        raise EnvironmentUnfit(
            f"the job wants model {plan.model_version}, this worker has {parts.analyzer.version}: "
            "install the same bundle on every machine"
        )
    images: tuple[ImageOutcome, ...] = ()
    report = withheld = None
    pictures = Pictures(parts.companions if plan.purpose == ANSWER else CompanionRule(), parts.analyzer.explain)
    if plan.obstacle is not None:
        study = failed(plan.obstacle)
    else:
        images = tuple(_analyse_images(plan.images, parts, pictures, check_lease))
        study = study_outcome(images, (each.reason for each in plan.left_out))
        # A report has one file: whoever no longer owns the job must not write over its successor's.
        check_lease()
        if plan.purpose == ANSWER and parts.rule.wants(study.outcome):
            withheld = parts.rule.withholds(plan, study.outcome)
            if withheld is None:
                content = report_content(plan, images, study, _algorithm(parts), parts.store)
                report = _report(content, pictures, parts, check_lease)
    result = JobResult(study, images, report, time.perf_counter() - started, withheld)
    deliveries = finish(parts.database, held, result, destinations=parts.destinations, now=parts.clock())
    log.info(
        "analysed",
        outcome=study.outcome.value,
        images=len(images),
        seconds=round(result.analysis_seconds or 0.0, 3),
        report=_state(report, withheld),
    )
    return deliveries


def _state(report: ReportOutcome | None, withheld: str | None) -> str:
    if report is None:
        return "none" if withheld is None else "withheld"
    return "built" if report.reference else "failed"


def _analyse_images(
    images: tuple[PlannedImage, ...], parts: Collaborators, pictures: Pictures, check_lease: Callable[[], None]
) -> Iterator[ImageOutcome]:
    for image in images:
        source = FrameSource(image.instance_id, image.number_of_frames)
        for answer, frame in analyse_frames(_frames(image, parts), parts.analyzer.analyze, source):
            check_lease()
            if frame is not None:
                pictures.see(reported(answer, parts.store.path(image.path)), frame)
            yield answer


def _frames(image: PlannedImage, parts: Collaborators) -> Iterator[DisplayedFrame]:
    """Yield the frames of an image in the store; a file that is not there is this image's own fault."""
    if image.deleted:
        raise FileDeleted("the image was deleted here after its report: send the study again")
    try:
        yield from parts.read_frames(_existing(image, parts.store))
    except FileNotFoundError:
        raise FileMissing("the image's file is missing from the store") from None


def _existing(image: PlannedImage, store: ReportStore) -> Path:
    """Return the image's path; a store that is gone as a whole is not this image's fault."""
    try:
        path = store.path(image.path)
    except PathOutside as error:
        raise FileNotFoundError from error
    if not path.exists():
        if store.is_empty():
            raise EnvironmentUnfit(UNMOUNTED)
        raise FileNotFoundError
    return path


def _algorithm(parts: Collaborators) -> Algorithm:
    model = parts.analyzer
    return Algorithm(model.name, model.version, parts.manufacturer, model.parameters)


def _report(
    content: ReportContent, pictures: Pictures, parts: Collaborators, check_lease: Callable[[], None]
) -> ReportOutcome:
    def companions(content: ReportContent, report: ReportReference) -> Iterator[BuiltCompanion]:
        for companion in parts.build_companions(content, report, pictures):
            check_lease()
            yield companion

    return make_report(content, parts.build_report, parts.store, companions)
