"""Pages that nobody looks at any more: what was uploaded on them goes, not when another page happens to be closed.

Streamlit puts a closed page aside so that a visitor whose network was away finds it again. It forgets such pages only
when it puts the next one aside: the last visitor's images would stay without end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog

from dicom_io.network.incident import incident

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
# Streamlit lets go of a page after two minutes, and then nobody can close it any more.
CLOSED_SECONDS = 90.0


@dataclass
class StaleSessions:
    """Closes the sessions that hold uploads and have been without a browser for a while."""

    holding: Callable[[], Collection[str]]
    is_open: Callable[[str], bool]
    close: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        """Look once."""
        now = self.clock()
        closed = [session for session in self.holding() if not self.is_open(session)]
        self._since = {session: self._since.get(session, now) for session in closed}
        for session, since in self._since.items():
            if now - since >= CLOSED_SECONDS:
                self.close(session)

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - an upload that stays is no reason to forget no other
                log.warning("stale_sessions_not_closed", **incident(error))
