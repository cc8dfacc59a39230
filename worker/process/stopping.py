"""Ctrl-C and its kin as something that is asked for, not something that breaks out of the middle of anything."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Set by SIGINT, SIGTERM or SIGHUP once `install` was called. A second signal means: at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._count = 0

    def install(self) -> None:
        """Take the signals over; only the main thread can."""
        for number in SIGNALS:
            # nohup has SIGHUP ignored on purpose.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        self.event.set()

    def is_urgent(self) -> bool:
        """Say whether it was asked for more than once."""
        return self._count > 1
