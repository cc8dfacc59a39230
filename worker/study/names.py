"""Which study a person means: by its Study Instance UID, whole or as a table shortens it, or its accession number."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from dicom_io.uids import is_safe_uid
from worker.db.database import Database
from worker.db.tables import Study
from worker.errors import AmbiguousStudy, UnknownStudy

SHOWN = 12
"""Characters of a UID that a narrow table shows, its last ones: they differ where the first are the maker's."""
CUT = "\u2026"
LISTED = 10


def short_uid(uid: str) -> str:
    """Return a UID as a narrow table shows it."""
    return uid if len(uid) <= SHOWN + 1 else CUT + uid[-SHOWN:]


def study_named(database: Database, name: str) -> str:
    """Return the Study Instance UID of the study that is meant.

    Raises
    ------
    worker.errors.UnknownStudy
        When none has been received that is called so.
    worker.errors.AmbiguousStudy
        When several are; the message lists them.
    worker.errors.DatabaseUnavailable
        When the database does not answer.
    """
    wanted = name.strip()
    with database.read() as session:
        for condition in _meanings(wanted):
            found = _found(session, condition)
            if len(found) == 1:
                return found[0]
            if found:
                listed = "\n".join(found[:LISTED])
                more = "" if len(found) <= LISTED else "\nand more"
                raise AmbiguousStudy(f"several studies are called so; name one by its UID:\n{listed}{more}")
    # A UID names nobody; what else was typed may be anything and is not repeated.
    named = f": {wanted}" if is_safe_uid(wanted) else ""
    raise UnknownStudy(f"no study with this Study Instance UID or accession number has been received{named}")


def _meanings(name: str) -> list[ColumnElement[bool]]:
    ending = name.removeprefix(CUT).removeprefix("...")
    meanings = [Study.study_instance_uid == name, Study.accession_number == name]
    if ending in ("", name):
        return meanings
    return [*meanings, Study.study_instance_uid.endswith(ending, autoescape=True)]


def _found(session: Session, condition: ColumnElement[bool]) -> list[str]:
    query = select(Study.study_instance_uid).where(condition).order_by(Study.id.desc())
    return list(session.scalars(query.limit(LISTED + 1)))
