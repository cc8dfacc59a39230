"""What a run over an archive would take: its windows asked for in turn, counted and forgotten; nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from dicom_io.archive.archive import FoundPage, FoundStudy
from dicom_io.errors import PeerRefused
from worker.db.database import Database
from worker.db.tables import ReanalysisRun
from worker.reanalysis.archive import TOO_MANY, ask, sort_page
from worker.reanalysis.date_windows import DateWindowCursor, walk_of
from worker.reanalysis.estimate import Estimate, measured_seconds
from worker.reanalysis.pace import QUERY, charge, take_turn
from worker.reanalysis.parts import ArchiveParts
from worker.reanalysis.runs import Request, RunView

MOST_QUESTIONS = 300


def estimate_archive(
    database: Database,
    parts: ArchiveParts,
    request: Request,
    *,
    model_version: str,
    processes: int,
    clock: Callable[[], datetime],
    tell: Callable[[str], None],
) -> Estimate:
    """Count what a run over the archive would be about, in a bounded number of questions at the pace of a run.

    Parameters
    ----------
    tell : callable
        Hears how far the count is, in words.

    Returns
    -------
    Estimate
        `counted_to` is the study date that was reached where the questions did not suffice.

    Raises
    ------
    dicom_io.errors.PeerError
        When the archive does not answer.
    """
    run = ReanalysisRun(created_at=clock())
    view, walk = RunView(run, request), walk_of(run, request)
    most = request.maximum_studies
    studies, images, unsaid, asked = 0, 0, 0, 0
    while not walk.is_over and asked < MOST_QUESTIONS and (most is None or studies < most):
        _take_turn(database, parts, clock)
        page = ask(walk, view, parts)
        asked += 1 if page is None else page.questions
        charge(database, QUERY, 0 if page is None else page.questions - 1, a_minute=_pace(parts), now=clock())
        if page is None or not page.complete:
            walk = _narrowed(walk)
            continue
        found = _unanswered(database, page, model_version)[: None if most is None else most - studies]
        studies += len(found)
        images += sum(study.number_of_instances or 0 for study in found)
        unsaid += sum(study.number_of_instances is None for study in found)
        walk = walk.moved(widen=len(page.studies) < parts.rule.page // 4)
        tell(f"{studies} studies down to {walk.place:%Y-%m-%d}" if walk.newest else f"{studies} studies")
    said = studies - unsaid
    images += round(unsaid * images / said) if said else unsaid
    over = walk.is_over or (most is not None and studies >= most)
    with database.read() as session:
        seconds = measured_seconds(session)
    return Estimate(studies, images, seconds, processes, None if over else f"{walk.place:%Y-%m-%d}")


def _take_turn(database: Database, parts: ArchiveParts, clock: Callable[[], datetime]) -> None:
    while (seconds := take_turn(database, QUERY, a_minute=_pace(parts), now=clock())) > 0:
        parts.wait(seconds)


def _pace(parts: ArchiveParts) -> int:
    return parts.rule.queries_a_minute


def _narrowed(walk: DateWindowCursor) -> DateWindowCursor:
    narrower = walk.narrowed()
    if narrower is None:
        raise PeerRefused(TOO_MANY)
    return narrower


def _unanswered(database: Database, page: FoundPage, model_version: str) -> list[FoundStudy]:
    studies = {study.study_instance_uid: study for study in page.studies}
    with database.read() as session:
        wanted = sort_page(session, tuple(studies), model_version)
    return [studies[uid] for uid in (*wanted.here.values(), *wanted.away)]
