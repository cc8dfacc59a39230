"""What the past may cost the present: the limits of a re-analysis, and in words what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select

from worker.db.database import Database
from worker.db.tables import ANSWER, Job
from worker.reanalysis.parts import ArchiveParts
from worker.reanalysis.runs import Request, RunView
from worker.settings.night import NightRule
from worker.storage.file_removal import FileStore

NIGHT_OVER = "the night is over: goes on at the next"
NIGHT_FULL = "the studies of this night are done: goes on at the next"
LIVE_FIRST = "waits: more of today's studies are queued than BONEWATCH_REANALYSIS_LIVE_LIMIT"
LANE_FULL = "waits: as many studies are queued as BONEWATCH_REANALYSIS_WAITING"
DISK_FULL = "waits: retrieved studies fill BONEWATCH_REANALYSIS_DISK_BYTES until they are answered and committed"
NO_ARCHIVE = "waits: BONEWATCH_ARCHIVE is not set where the scheduler runs"
OTHER_MODEL = "another model was installed: begin a new run"


@dataclass(frozen=True, slots=True)
class ReanalysisRule:
    """What the past may cost: see `worker.settings.reanalysis`. A step takes `seconds`, a page has `page` studies."""

    night: NightRule | None = None
    night_requests: tuple[Request, ...] = field(default_factory=lambda: (Request(),))
    studies_a_night: int | None = None
    live_limit: int = 20
    waiting: int = 200
    lease_seconds: float = 60.0
    page: int = 200
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class ReanalysisCollaborators:
    """What a step works with; `model_version` reads the version of the bundle that is installed now."""

    database: Database
    model_version: Callable[[], str]
    rule: ReanalysisRule
    clock: Callable[[], datetime]
    store: FileStore
    archive: ArchiveParts | None = None


def resting(parts: ReanalysisCollaborators, view: RunView, now: datetime) -> str | None:
    """Return why nothing at all is done for a run now, or None."""
    rule, run = parts.rule, view.run
    if run.night_until is not None and now >= run.night_until:
        return NIGHT_OVER
    return LIVE_FIRST if queued(parts.database, "live", rule.live_limit + 1) > rule.live_limit else None


def night_room(parts: ReanalysisCollaborators, view: RunView) -> int | None:
    """Return how many studies this night may still take up, None where there is no limit."""
    rule, run = parts.rule, view.run
    if run.night_until is None or rule.studies_a_night is None:
        return None
    return max(rule.studies_a_night - run.night_studies, 0)


def lane_room(parts: ReanalysisCollaborators) -> int:
    """Return how many more studies may wait in the archive's lane."""
    return parts.rule.waiting - queued(parts.database, "archive", parts.rule.waiting)


def queued(database: Database, lane: str, most: int) -> int:
    """Return how many answers wait in a lane, counted no further than `most`."""
    waiting = select(Job.id).where(Job.state == "queued", Job.lane == lane, Job.purpose == ANSWER).limit(most)
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(waiting.subquery())) or 0
