"""Our C-MOVEs that are under way: what makes an instance that is pushed to our listener one that we asked for.

Anybody can push and say that a C-MOVE set it off (PS3.7 9.1.1.1). It is believed for a study that we are asking for at
this moment, with the message id of that request; or, as not every PACS says so, without one from the AE that we asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from dicom_io.types import Peer
from worker.db.columns import truncated_to_columns
from worker.db.database import Database
from worker.db.tables import Move

SPARE_SECONDS = 60.0
"""For what is on its way when we stop waiting."""


class MoveLedger:
    """Records each C-MOVE for as long as it takes; what a killed process leaves behind ends with its time.

    Parameters
    ----------
    database : Database
        Where the listener, which may be on another machine, looks.
    ae_title : str
        The PACS that is asked.
    total_seconds : float
        After so long we hang up.
    clock : callable
        The present moment, with its offset.
    """

    def __init__(self, database: Database, ae_title: str, total_seconds: float, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._ae_title = ae_title
        self._seconds = total_seconds + SPARE_SECONDS
        self._clock = clock

    @contextmanager
    def announce(self, study_instance_uid: str, message_id: int) -> Iterator[None]:
        """Have a C-MOVE on record for the length of a block.

        Raises
        ------
        worker.errors.DatabaseError
            When it cannot be recorded now; nothing may be asked for then.
        """
        now = self._clock()
        move = Move(
            study_instance_uid=study_instance_uid,
            message_id=message_id,
            ae_title=self._ae_title,
            until=now + timedelta(seconds=self._seconds),
        )
        with self._database.write() as session:
            session.execute(delete(Move).where(Move.until < now))
            session.add(move)
            session.flush()
            key = move.id
        try:
            yield
        finally:
            with self._database.write() as session:
                session.execute(delete(Move).where(Move.id == key))


def source_of(session: Session, study_instance_uid: str, peer: Peer, now: datetime) -> str:
    """Return how an instance came: as its peer says, or 'move' where a C-MOVE of ours set it off."""
    if peer.source != "push":
        return peer.source
    # An AE title from the network may hold what a database refuses; it is compared as rows hold it.
    known_as = truncated_to_columns(Move, ae_title=peer.ae_title)["ae_title"]
    ours = exists().where(
        Move.study_instance_uid == study_instance_uid,
        Move.until >= now,
        Move.ae_title == known_as if peer.move_message_id is None else Move.message_id == peer.move_message_id,
    )
    return "move" if session.scalar(select(ours)) else "push"
