"""Everything that the page shows of one study, read in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from dicom_io.types import Outcome
from worker.db.database import Database
from worker.db.tables import ANSWER, OBJECT_NAMES, Companion, Event, ImageResult, Instance, Job, Report, Study
from worker.operate.results import ResultFilter, ResultRow, results
from worker.study.outcomes import gravity

MOST_EVENTS = 500
# Page views are the visitors' trace, not the study's.
VISITS = ("page_viewed", "page_pressed")
FINISHED = ("done", "failed")
TOLD = ("destination", "reason", "by", "lane", "attempt")


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a study's way and when it happened; `seconds` since the step before, None at the first."""

    at: datetime
    what: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study with its result, images, answering jobs (none in shadow), its way, and what was recorded.

    Images come gravest first with their findings, jobs newest first. Images and report are those of the result's job.
    """

    result: ResultRow
    instances: Sequence[Instance]
    images: Sequence[ImageResult]
    jobs: Sequence[Job]
    way: Sequence[Hop]
    events: Sequence[Hop]

    @property
    def report(self) -> Report | None:
        """The report of the result shown."""
        return next((job.report for job in self.jobs if job.id == self.result.job_id), None)

    @property
    def answers(self) -> list[Job]:
        """The finished jobs, newest first: the result shown at first is the first one's."""
        return [job for job in self.jobs if job.state in FINISHED]


def load_study(database: Database, study_instance_uid: str) -> StudyView | None:
    """Return a study, None where nobody has sent it."""
    result = next(results(database, ResultFilter(study_instance_uid=study_instance_uid), limit=1), None)
    if result is None:
        return None
    with database.read() as session:
        jobs = session.scalars(
            select(Job)
            .where(Job.study_id == result.study_id, Job.purpose == ANSWER)
            .options(
                selectinload(Job.report).selectinload(Report.deliveries),
                selectinload(Job.report).selectinload(Report.companions).selectinload(Companion.deliveries),
            )
            .order_by(Job.id.desc())
        ).all()
        instances = session.scalars(
            select(Instance).where(Instance.study_id == result.study_id).order_by(Instance.id)
        ).all()
        images = _said(session, result.job_id)
        events = session.scalars(
            select(Event)
            .where(Event.study_id == result.study_id, Event.kind.not_in(VISITS))
            .order_by(Event.id.desc())
            .limit(MOST_EVENTS)
        ).all()
        study = session.get_one(Study, result.study_id)
    recorded = _timed([Hop(event.at, _words(event)) for event in reversed(events)])
    return StudyView(result, instances, images, jobs, _way(study, instances, jobs), recorded)


def with_answer(database: Database, found: StudyView, job: Job) -> StudyView:
    """Return a study with what one of its finished jobs said in place of what the newest said.

    What the result has of the study and of the newest report's way stays as it is.
    """
    with database.read() as session:
        images = _said(session, job.id)
    result = replace(
        found.result,
        job_id=job.id,
        revision=job.revision,
        model_version=job.model_version,
        outcome=job.outcome,
        probability=job.probability,
        reason=job.reason,
        analysed_at=job.finished_at,
    )
    return replace(found, result=result, images=images)


def _said(session: Session, job_id: int | None) -> list[ImageResult]:
    """Return what a job said: its images, gravest first, each with its findings, best first."""
    asked = select(ImageResult).where(ImageResult.job_id == job_id).options(selectinload(ImageResult.findings))
    images = session.scalars(asked.order_by(ImageResult.id))
    return sorted(images, key=lambda image: gravity(Outcome(image.outcome), image.probability))


def _way(study: Study, instances: Sequence[Instance], jobs: Sequence[Job]) -> list[Hop]:
    """Return the steps that every study takes, of each of its jobs; a job is named where there are several.

    Reports and whatever else is not to be analysed are no images of the study, also where they came with it.
    """
    arrived = sorted(each.received_at for each in instances if each.out_of_scope_reason is None)
    first = "received the first image" if arrived else "received; nothing in it is to be analysed"
    hops = [Hop(arrived[0] if arrived else study.first_instance_at, first)]
    if len(arrived) > 1:
        hops.append(Hop(arrived[-1], f"received the last of {len(arrived)} images"))
    if study.completed_at is not None:
        hops.append(Hop(study.completed_at, "complete: no more images came"))
    for job in reversed(jobs):
        name = f" (job {job.id}, {job.model_version})" if len(jobs) > 1 else ""
        hops += [Hop(at, what + name) for at, what in _steps(job) if at is not None]
    return _timed(sorted(hops, key=lambda hop: hop.at))


def _steps(job: Job) -> list[tuple[datetime | None, str]]:
    steps: list[tuple[datetime | None, str]] = [
        (job.created_at, "queued"),
        (job.started_at, "claimed by a worker"),
        (job.finished_at, f"analysed: {job.outcome or job.state}"),
    ]
    if job.report is not None:
        objects = [
            ("", job.report.deliveries),
            *((OBJECT_NAMES[each.kind] + " ", each.deliveries) for each in job.report.companions),
        ]
        for name, deliveries in objects:
            for delivery in deliveries:
                steps.append((delivery.sent_at, f"{name}sent to {delivery.destination}"))
                steps.append((delivery.committed_at, f"{name}committed by {delivery.destination}"))
    return steps


def _timed(hops: list[Hop]) -> list[Hop]:
    later = (Hop(hop.at, hop.what, (hop.at - before.at).total_seconds()) for before, hop in pairwise(hops))
    return [*hops[:1], *later]


def _words(event: Event) -> str:
    words = event.kind.replace("_", " ")
    said = ", ".join(f"{name} {event.detail[name]}" for name in TOLD if event.detail.get(name))
    return f"{words} ({said})" if said else words
