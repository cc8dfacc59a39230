"""A run over an archive, worked at: several retrievals at once, and the plan whenever few are left to retrieve.

Each request waits for its turn (`worker.reanalysis.pace`). Retrievals run in threads and write their own ends; the
lease of the run is theirs too, so that nobody else asks for the same study meanwhile.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import structlog

from dicom_io.archive.archive import StudyNotFound, StudyQuery
from dicom_io.errors import PeerError
from worker.db.reanalysis_tables import TO_RETRIEVE
from worker.errors import DatabaseError, LeaseLost
from worker.reanalysis import retrievals
from worker.reanalysis.archive import plan_window
from worker.reanalysis.items import studies_in
from worker.reanalysis.limits import (
    DISK_FULL,
    LANE_FULL,
    NIGHT_FULL,
    ReanalysisCollaborators,
    lane_room,
    night_room,
    resting,
)
from worker.reanalysis.pace import QUERY, RETRIEVAL, charge, take_turn
from worker.reanalysis.parts import ArchiveParts
from worker.reanalysis.retrievals import RetrievalFailure
from worker.reanalysis.retrieved_copies import copied_bytes
from worker.reanalysis.runs import RunLease, RunView

LOOK_SECONDS = 1.0
NOTHING_CAME = "the archive handed over nothing of it"
UNEXPECTED = "an unexpected error in bonewatch"

log = structlog.get_logger(__name__)


@dataclass
class ArchiveWork:
    """What one step does of one run. Leaving it waits for the retrievals that are under way."""

    parts: ReanalysisCollaborators
    archive: ArchiveParts
    held: RunLease
    _pool: ThreadPoolExecutor = field(init=False)
    _under_way: dict[Future[None], int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self.archive.rule.at_once, thread_name_prefix="retrieval")
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)

    def piece(self, view: RunView, now: datetime) -> bool | str:
        """Begin a retrieval or ask for a window, or wait a little for a turn; False if there is nothing to do now.

        Words where the run has to wait: retrievals that are under way come to their ends all the same.
        """
        self._collect()
        run, rule = view.run, self.archive.rule
        if run.retry_at is not None and now < run.retry_at:
            return False
        left = studies_in(self.parts.database, run.id, TO_RETRIEVE, rule.page)
        if run.planned_at is not None and not left:
            return False
        reason = resting(self.parts, view, now)
        if reason is not None:
            return reason
        item_id = self._next_due(now)
        if item_id is not None:
            return self._obstacle(view) or self._retrieve_soon(item_id)
        if run.planned_at is None and left < rule.page:
            return self._plan(view, now)
        return self._wait_for_one() if self._under_way else False

    def _obstacle(self, view: RunView) -> str | None:
        """Return why nothing may be retrieved now, or None."""
        parts = self.parts
        if night_room(parts, view) == 0:
            return NIGHT_FULL
        on_their_way = studies_in(parts.database, view.run_id, ("retrieved",), parts.rule.waiting)
        if lane_room(parts) <= on_their_way + len(self._under_way):
            return LANE_FULL
        return DISK_FULL if copied_bytes(parts.database) >= self.archive.rule.copy_bytes else None

    def _retrieve_soon(self, item_id: int) -> bool:
        if len(self._under_way) >= self.archive.rule.at_once:
            return self._wait_for_one()
        if self._has_turn(RETRIEVAL, self.archive.rule.retrievals_a_minute):
            # Begun here and not in the thread: the next piece counts it in the studies of the night.
            source, now = self.archive.archive.source, self.parts.clock()
            uid = retrievals.begin(self.parts.database, self.held, item_id, source, now)
            if uid is not None:
                self._under_way[self._pool.submit(self._retrieve, item_id, uid)] = item_id
        return True

    def _plan(self, view: RunView, now: datetime) -> bool:
        rule, database = self.archive.rule, self.parts.database
        if not self._has_turn(QUERY, rule.queries_a_minute):
            return True
        try:
            asked = plan_window(database, self.held, view, self.archive, now)
        except PeerError as error:
            with database.write() as session:
                retrievals.note_setback(self.held.run(session), str(error), now)
            return False
        charge(database, QUERY, asked - 1, a_minute=rule.queries_a_minute, now=now)
        return True

    def _next_due(self, now: datetime) -> int | None:
        return retrievals.next_due(self.parts.database, self.held.row_id, frozenset(self._under_way.values()), now)

    def _wait_for_one(self) -> bool:
        wait(self._under_way, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        return True

    def _collect(self) -> None:
        """Take note of the retrievals that have ended; raises what kept one of them from writing its end."""
        for ended in [future for future in self._under_way if future.done()]:
            del self._under_way[ended]
            ended.result()

    def _has_turn(self, kind: str, a_minute: int) -> bool:
        seconds = take_turn(self.parts.database, kind, a_minute=a_minute, now=self.parts.clock())
        if seconds > 0:
            self.archive.wait(min(seconds, LOOK_SECONDS))
        return seconds <= 0

    def _retrieve(self, item_id: int, uid: str) -> None:
        database, clock = self.parts.database, self.parts.clock
        try:
            failure = self._ask_for(uid)
        except (DatabaseError, LeaseLost):
            raise
        except Exception as error:  # noqa: BLE001 - a process edge: whatever an archive hands over, its study has an end
            log.error("retrieval_failed", error=type(error).__name__)  # noqa: TRY400 - a trace may hold a data set
            failure = RetrievalFailure("unexpected", f"{UNEXPECTED} ({type(error).__name__})")
        if failure is None:
            retrievals.arrived(database, self.held, item_id)
        else:
            retrievals.went_wrong(database, self.held, item_id, failure, clock())

    def _ask_for(self, uid: str) -> RetrievalFailure | None:
        try:
            receipt = self.archive.archive.retrieve(uid, self.archive.receive)
        except StudyNotFound as error:
            return RetrievalFailure("not_found", str(error), final=True)
        except PeerError as error:
            return RetrievalFailure(error.code, str(error), of_archive=error.retryable and not self._answers())
        if receipt.failed:
            words = f"{receipt.failed} of {receipt.failed + receipt.completed} instances did not come"
            return RetrievalFailure("incomplete", f"{words}: {receipt.reason}" if receipt.reason else words)
        return None if receipt.completed else RetrievalFailure("not_found", NOTHING_CAME, final=True)

    def _answers(self) -> bool:
        """Ask the archive something small, to tell its own trouble from that of one study."""
        now = self.parts.clock()
        charge(self.parts.database, QUERY, 1, a_minute=self.archive.rule.queries_a_minute, now=now)
        day = now.date()
        try:
            self.archive.archive.find(StudyQuery(first=day, last=day), 1)
        except PeerError:
            return False
        return True
