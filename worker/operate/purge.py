"""`purge`: the files of studies older than a site wants to keep them here; the PACS holds them, and their reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select

from worker.db.database import Database
from worker.db.tables import Instance, Study, utc_now
from worker.storage.file_removal import PURGED, FileStore, Removed, has_files, mark, marked, remove_marked, settled

PAGE = 200


@dataclass(frozen=True, slots=True)
class Purgeable:
    """What a purge would delete, and how many studies of that age are kept because something of them is not settled."""

    studies: int
    instances: int
    size_bytes: int
    kept: int


def estimate(database: Database, before: datetime) -> Purgeable:
    """Say what `purge` would do now."""
    wanted = Study.id.in_(select(Study.id).where(_old(before), settled()))
    unmarked = Instance.file_deleted_reason.is_(None)
    size = func.coalesce(func.sum(Instance.size_bytes), 0)
    with database.read() as session:
        studies, instances, size_bytes = session.execute(
            select(func.count(Instance.study_id.distinct()), func.count(), size)
            .join(Instance.study)
            .where(unmarked, wanted)
        ).one()
        kept = session.scalar(select(func.count()).select_from(Study).where(_old(before), ~settled())) or 0
    return Purgeable(studies, instances, int(size_bytes), kept)


def purge(database: Database, store: FileStore, before: datetime, *, by: str) -> Iterator[Removed]:
    """Delete the files of settled studies of which nothing arrived since `before`, oldest row first; yield each.

    Begins with what an earlier purge was killed in. One transaction a study; breaking off loses nothing.
    """
    while going := marked(database, PAGE):
        for study_id in going:
            yield remove_marked(database, store, study_id, by=by, now=utc_now())
    behind = 0
    while found := _page(database, before, behind):
        for study_id in found:
            if mark(database, study_id, settled() & _old(before), PURGED):
                yield remove_marked(database, store, study_id, by=by, now=utc_now())
        behind = found[-1]


def _page(database: Database, before: datetime, behind: int) -> list[int]:
    wanted = select(Study.id).where(Study.id > behind, _old(before), settled()).order_by(Study.id).limit(PAGE)
    with database.read() as session:
        return list(session.scalars(wanted))


def _old(before: datetime) -> ColumnElement[bool]:
    return (Study.last_instance_at < before) & has_files()
