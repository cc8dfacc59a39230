"""Everything that the page shows of one study, read in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from worker.database import Database
from worker.results import FindingRow, ResultFilter, ResultRow, findings, results
from worker.tables import Event, ImageResult, Instance, Job, Report, Study

MOST_EVENTS = 500
# Page views are the visitors' trace, not the study's.
VISITS = ("page_viewed", "page_pressed")


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a study's way and when it happened."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study with its result, images, jobs newest first, and way."""

    result: ResultRow
    instances: Sequence[Instance]
    images: Sequence[ImageResult]
    boxes: Sequence[FindingRow]
    jobs: Sequence[Job]
    way: Sequence[Hop]

    @property
    def report(self) -> Report | None:
        """The report of the result shown."""
        return next((job.report for job in self.jobs if job.id == self.result.job_id), None)


def load_study(database: Database, study_instance_uid: str) -> StudyView | None:
    """Return a study, None where nobody has sent it."""
    result = next(results(database, ResultFilter(study_instance_uid=study_instance_uid), limit=1), None)
    if result is None:
        return None
    with database.read() as session:
        jobs = session.scalars(
            select(Job)
            .where(Job.study_id == result.study_id)
            .options(selectinload(Job.report).selectinload(Report.deliveries))
            .order_by(Job.id.desc())
        ).all()
        instances = session.scalars(
            select(Instance).where(Instance.study_id == result.study_id).order_by(Instance.id)
        ).all()
        images = session.scalars(
            select(ImageResult).where(ImageResult.job_id == result.job_id).order_by(ImageResult.id)
        ).all()
        events = session.scalars(
            select(Event)
            .where(Event.study_id == result.study_id, Event.kind.not_in(VISITS))
            .order_by(Event.id.desc())
            .limit(MOST_EVENTS)
        ).all()
        study = session.get_one(Study, result.study_id)
        way = _way(study, instances, jobs, events)
    return StudyView(result, instances, images, findings(database, study_instance_uid), jobs, way)


def _way(study: Study, instances: Sequence[Instance], jobs: Sequence[Job], events: Sequence[Event]) -> list[Hop]:
    hops = [Hop(event.at, _words(event)) for event in events]
    if instances:
        hops.append(Hop(study.first_instance_at, "first instance received"))
        hops.append(Hop(study.last_instance_at, f"last of {len(instances)} instances received"))
    for job in jobs:
        if job.started_at is not None:
            hops.append(Hop(job.started_at, f"claimed by a worker (job {job.id})"))
        if job.finished_at is not None:
            hops.append(Hop(job.finished_at, f"answered: {job.outcome or job.state} (job {job.id})"))
        for delivery in job.report.deliveries if job.report is not None else ():
            if delivery.sent_at is not None:
                hops.append(Hop(delivery.sent_at, f"report sent to {delivery.destination}"))
            if delivery.committed_at is not None:
                hops.append(Hop(delivery.committed_at, f"report committed by {delivery.destination}"))
    return sorted(hops, key=lambda hop: hop.at)


def _words(event: Event) -> str:
    words = event.kind.replace("_", " ")
    said = {name: value for name, value in event.detail.items() if name in ("destination", "reason", "by", "lane")}
    return words + (f" ({', '.join(f'{name} {value}' for name, value in said.items())})" if said else "")
