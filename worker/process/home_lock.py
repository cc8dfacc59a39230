"""The right to run `bonewatch up` in a home: one at a time."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import IO

from worker.errors import HomeInUse

POLL_SECONDS = 0.05
LOCK_NAME = "up.lock"
"""The file in a home's run folder."""


def held_since(path: Path) -> float | None:
    """Return when the lock of `bonewatch up` was taken, in seconds since the epoch; None where nobody holds it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return path.stat().st_mtime
    except OSError:
        return None
    return None


class HomeLock:
    """The right to run in a home, held until this process and all its subreapers have ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    @property
    def descriptor(self) -> int:
        """The open file; whoever inherits it holds the lock too."""
        if self._file is None:
            raise ValueError("the lock is not held")
        return self._file.fileno()

    def acquire(self, wait_seconds: float, stop: threading.Event) -> None:
        """Take the lock; wait a little for the processes of a predecessor that was killed.

        Raises
        ------
        HomeInUse
            When somebody still holds it afterwards.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+")
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline or stop.wait(POLL_SECONDS):
                    self._refuse()
            else:
                self._file.truncate(0)
                self._file.write(f"{os.getpid()}\n")
                self._file.flush()
                return

    def _refuse(self) -> None:
        assert self._file is not None  # noqa: S101 - acquire has opened it
        self._file.seek(0)
        holder = self._file.read().strip() or "unknown"
        self.release()
        raise HomeInUse(f"bonewatch is already running in {self.path.parent.parent} (process {holder})")

    def release(self) -> None:
        """Give the lock up, as far as this process holds it."""
        if self._file is not None:
            self._file.close()
            self._file = None
