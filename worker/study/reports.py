"""The seam between a job's results and the structured report that tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from dicom_io.errors import ReportError
from dicom_io.report.structured_report import BuiltObject, ReportContent
from dicom_io.types import Algorithm, Outcome, ReportedImage, ReportReference, StoredFile
from worker.study.companions import BuiltCompanion
from worker.study.completion import CompanionOutcome, ReportOutcome
from worker.study.outcomes import ImageOutcome, StudyOutcome, reported, shortened
from worker.study.plan import Plan

BuildReport = Callable[[ReportContent], BuiltObject]
MakeCompanions = Callable[[ReportContent, ReportReference], Iterable[BuiltCompanion]]
UNMOUNTED = "the store is empty or not there: is its disk mounted, its bucket the right one?"


class ReportStore(Protocol):
    """Where reports are kept (`dicom_io.store.stores.Store`)."""

    def path(self, relative: str) -> Path:
        """Return the absolute path of a stored file."""

    def is_empty(self) -> bool:
        """Say whether the whole store is empty or not there, so that one missing file in it says nothing."""

    def put_report(self, part10: bytes, sop_instance_uid: str) -> StoredFile:
        """Keep a report; the same UID again replaces it."""


def report_content(
    plan: Plan, images: Sequence[ImageOutcome], study: StudyOutcome, algorithm: Algorithm, store: ReportStore
) -> ReportContent:
    """Return what the report says. It depends on the plan and the results alone: building twice gives the same bytes.

    The content date and time are those of the job's first start, which a worker that starts over finds again in SQL,
    on this machine's wall clock (a report shows no time zone unless its sources do).
    The revision is part of the analysis digest, so that a retry makes a new object and not the old one with new words.
    """
    paths: dict[int | None, Path] = {image.instance_id: store.path(image.path) for image in plan.images}
    shown = [reported(image, paths[image.instance_id]) for image in images]
    if study.outcome is Outcome.OUT_OF_SCOPE:
        shown = [
            ReportedImage(store.path(each.path), 0, Outcome.OUT_OF_SCOPE, reason=each.reason) for each in plan.left_out
        ]
    return ReportContent(
        images=tuple(shown),
        outcome=study.outcome,
        algorithm=algorithm,
        analysis_digest=f"{plan.digest}.{plan.revision}",
        model_version=plan.model_version,
        predecessor=plan.predecessor,
        patient_from=_newest(plan, store),
        content_datetime=plan.content_datetime.astimezone(),
    )


def _newest(plan: Plan, store: ReportStore) -> Path | None:
    """Return the image that came last, which names patient and order as they are now."""
    newest = max(plan.images, key=lambda image: (image.received_at, image.instance_id), default=None)
    return None if newest is None else store.path(newest.path)


def no_companions(content: ReportContent, report: ReportReference) -> Iterable[BuiltCompanion]:
    """Make no pictures."""
    return ()


def make_report(
    content: ReportContent, build: BuildReport, store: ReportStore, pictures: MakeCompanions = no_companions
) -> ReportOutcome:
    """Build the report and its companions, and keep them in the store.

    Returns
    -------
    worker.study.completion.ReportOutcome
        With the reason, where these sources cannot give a report; the results are kept all the same.

    Raises
    ------
    dicom_io.errors.StoreError
        When the store cannot take it.
    """
    predecessor = content.predecessor.sop_instance_uid if content.predecessor else None
    try:
        report = build(content)
    except ReportError as error:
        return ReportOutcome(reason=shortened(str(error)))
    stored = store.put_report(report.part10, report.reference.sop_instance_uid)
    kept = tuple(_kept(companion, store) for companion in pictures(content, report.reference))
    return ReportOutcome(report.reference, stored.path, predecessor, companions=kept)


def _kept(companion: BuiltCompanion, store: ReportStore) -> CompanionOutcome:
    made = companion.report
    if made is None:
        return CompanionOutcome(companion.kind, companion.number, reason=companion.reason)
    stored = store.put_report(made.part10, made.reference.sop_instance_uid)
    return CompanionOutcome(companion.kind, companion.number, made.reference, stored.path)
