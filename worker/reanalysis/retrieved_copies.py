"""The files of retrieved studies: how much of the disk they hold, and their deletion once their studies are answered.

The archive has them all; what is kept here is rows. A study that was pushed or uploaded as well is today's work, and
its files are nobody's to delete but `bonewatch purge`'s.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import aliased

from dicom_io.errors import StoreError
from worker.db.database import Database, changed_rows
from worker.db.open_items import item_is_open
from worker.db.tables import LIVE_SOURCES, Instance, ReanalysisItem, Study
from worker.storage.file_removal import RETRIEVED_COPY, FileStore, ended, mark, remove_marked

BY = "the archive's night"

log = structlog.get_logger(__name__)


def copied_bytes(database: Database) -> int:
    """Return how many bytes retrieved studies hold in the store."""
    retrieved = Study.study_instance_uid.in_(
        select(ReanalysisItem.study_instance_uid).where(ReanalysisItem.copy_here.is_(True))
    )
    with database.read() as session:
        size = session.scalar(
            select(func.coalesce(func.sum(Instance.size_bytes), 0))
            .join(Instance.study)
            .where(retrieved, Study.source.not_in(LIVE_SOURCES), Instance.file_deleted_at.is_(None))
        )
        return int(size or 0)


def delete_answered(database: Database, store: FileStore, *, now: datetime, limit: int) -> int:
    """Delete the files of retrieved studies that nothing needs any more; return how many studies.

    Those are answered, and their reports committed, refused or not due; or their retrieval was given up. A file that
    cannot be deleted now is tried again by the next call.
    """
    ready = (
        select(ReanalysisItem.study_instance_uid, Study.id, Study.source)
        .join(Study, Study.study_instance_uid == ReanalysisItem.study_instance_uid, isouter=True)
        .where(
            ReanalysisItem.copy_here.is_(True),
            ~item_is_open(),
            or_(Study.id.is_(None), Study.source.in_(LIVE_SOURCES), _unneeded()),
        )
        .distinct()
        .limit(limit)
    )
    with database.read() as session:
        found = session.execute(ready).all()
    deleted = 0
    for uid, study_id, source in found:
        if study_id is not None and source not in LIVE_SOURCES:
            mark(database, study_id, _unneeded() & (Study.source.not_in(LIVE_SOURCES)), RETRIEVED_COPY)
            try:
                removed = remove_marked(database, store, study_id, by=BY, now=now)
            except StoreError as error:
                log.warning("retrieved_files_not_deleted", reason=str(error))
                continue
            deleted += removed.instances > 0
        _forget(database, uid)
    return deleted


def _unneeded() -> ColumnElement[bool]:
    other = aliased(ReanalysisItem)
    open_item = exists().where(
        other.study_instance_uid == Study.study_instance_uid, other.copy_here.is_(True), item_is_open(other)
    )
    return and_(ended(), ~open_item)


def _forget(database: Database, study_instance_uid: str) -> None:
    """Note that no retrieved file of a study is here, if that is so."""
    kept = exists().where(
        Study.study_instance_uid == study_instance_uid,
        Study.source.not_in(LIVE_SOURCES),
        Instance.study_id == Study.id,
        Instance.file_deleted_at.is_(None),
    )
    with database.write() as session:
        changed_rows(
            session,
            update(ReanalysisItem)
            .where(ReanalysisItem.study_instance_uid == study_instance_uid, ReanalysisItem.copy_here.is_(True))
            .where(~item_is_open(), ~kept)
            .values(copy_here=False)
            .execution_options(synchronize_session=False),
        )
